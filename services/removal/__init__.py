"""Who asks platforms to take content down, and what became of it."""

"""How is a system saved, and how does it come back? Data and keys in two archives that belong in two places."""

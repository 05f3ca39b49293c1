"""What notices and deliveries are, and their rules; no I/O."""

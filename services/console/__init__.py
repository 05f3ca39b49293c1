"""What people use: the command line, and the supervisor that runs the whole system on one machine."""

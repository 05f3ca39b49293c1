"""Stand-ins for the world outside: what the system talks to in tests and in the demo."""

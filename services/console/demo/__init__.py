"""What does a newcomer see? A whole system at work on real pictures and posts, then a table of what came of it."""

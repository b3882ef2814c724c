"""Training runs: the loop that makes them, and what they leave on disk."""

"""What comes in by git: the watched branch, pushes and their hooks, and what a commit must pass."""

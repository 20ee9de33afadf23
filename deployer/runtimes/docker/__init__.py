"""The docker runtime: one image a commit, one container a bot."""

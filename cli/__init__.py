"""One command for all: `ns`. It finds out what a checkout's bots run as, and passes each word on to whoever does it."""

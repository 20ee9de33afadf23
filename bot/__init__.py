"""The trading process. Its front door is the command line: `python -m bot` (see `cli`)."""

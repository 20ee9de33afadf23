"""What people ask for: control, requests from the command line, manual entries and exits."""

"""What people type: `python -m deployer COMMAND`."""

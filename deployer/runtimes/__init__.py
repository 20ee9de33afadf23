"""What runs bots: processes of this machine, or containers of an Engine."""

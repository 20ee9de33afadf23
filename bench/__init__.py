"""Measurements that people can repeat: ``python -m bench.NAME``."""

"""Servers that an agent started, shown to its session's owner: `face.py`."""

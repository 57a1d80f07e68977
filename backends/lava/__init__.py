"""Lava: emit a program as a Lava network, and run it under Python 3.10."""

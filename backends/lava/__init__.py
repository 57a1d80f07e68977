"""Lava: emits a self-contained program and runs it in a child process."""

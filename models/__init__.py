"""Describe networks in Python, and a small zoo of trained ones."""

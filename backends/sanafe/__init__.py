"""Hands mapped programs to SANA-FE, a simulator of energy and time on Loihi."""

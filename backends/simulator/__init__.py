"""The integer simulator: golden, the meaning of a program."""

"""What runs or emits programs: the integer simulator and Lava."""

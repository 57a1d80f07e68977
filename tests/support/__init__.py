"""Oracles and generators; the oracles use plain Python numbers and lists only."""

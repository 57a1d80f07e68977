"""Trained networks of the seed model, with the data to judge them."""

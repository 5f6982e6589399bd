"""Toys whose weights are written down: their mechanism is exact."""

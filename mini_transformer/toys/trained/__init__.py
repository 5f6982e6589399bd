"""Toys that are trained: their mechanism is known from measurements on every shipped seed."""

"""Predictions over time -> artifact regions."""

"""Figures and images drawn from reports."""

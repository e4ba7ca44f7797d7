"""The result of a run, and what is derived from it."""

"""What a run found, and what can be made of it."""

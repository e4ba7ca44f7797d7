"""From predictions over time to artifact regions."""

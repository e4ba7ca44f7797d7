"""What the browser sees: status texts, previews, preferences."""

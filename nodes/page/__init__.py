"""What the browser sees: status text, preview, preferences."""

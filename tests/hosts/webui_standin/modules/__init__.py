"""Stand-in for the WebUI's package."""

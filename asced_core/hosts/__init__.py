"""The method in other applications, each in a package of its own; nothing else of the core imports them."""

"""How ComfyUI's samplers are watched: the only folder that touches their hooks."""

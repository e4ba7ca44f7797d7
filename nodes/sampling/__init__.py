"""How a sampler of ComfyUI is watched: the only folder that touches its hooks."""

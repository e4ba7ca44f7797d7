"""Hosts other than ComfyUI: how their samplers are watched."""

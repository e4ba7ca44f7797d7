"""ASCED for ComfyUI: finds diffusion artifacts while they form, and corrects them on the spot.

This file imports nothing when it is loaded: the host asks for the nodes through ``comfy_entrypoint``, and
test runners may import it where no host is.
"""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> object:
    """The extension object of the V3 node interface."""
    from .nodes import AscedExtension

    return AscedExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]

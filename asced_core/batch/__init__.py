"""Many prompts and seeds over Ray workers, through a pipeline of diffusers or running ComfyUI servers.

``python -m asced_core.batch --help``; docs/batch.md. It needs the packages of the extra ``batch``.
"""

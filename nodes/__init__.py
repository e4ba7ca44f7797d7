"""The ComfyUI nodes: schema, adaptation and one call into the core each."""

from comfy_api.latest import ComfyExtension, io

from . import demo_model, sampling, settings, views


class AscedExtension(ComfyExtension):
    """What the host loads."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [*sampling.NODES, *settings.NODES, *views.NODES, *demo_model.NODES]

"""The ComfyUI nodes: schema, adaptation and one call into the core each."""

from comfy_api.latest import ComfyExtension, io

from . import (
    compare,
    custom_sampling,
    demo_model,
    gate,
    ksampler,
    model_patch,
    rivals,
    saving,
    settings,
    stitching,
    uncertainty,
    views,
)


class AscedExtension(ComfyExtension):
    """What the host loads."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            *ksampler.NODES,
            *custom_sampling.NODES,
            *model_patch.NODES,
            *stitching.NODES,
            *settings.NODES,
            *views.NODES,
            *compare.NODES,
            *gate.NODES,
            *saving.NODES,
            *rivals.NODES,
            *uncertainty.NODES,
            *demo_model.NODES,
        ]

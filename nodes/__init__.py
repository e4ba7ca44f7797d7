"""The ComfyUI nodes: schema, adaptation and one call into the core each."""

from comfy_api.latest import ComfyExtension, io

from . import (
    calibration,
    compare,
    correction,
    custom_sampling,
    demo_model,
    detection,
    gate,
    ksampler,
    mask_preview,
    model_patch,
    rivals,
    saving,
    stitching,
    uncertainty,
    view_settings,
    views,
)


class AscedExtension(ComfyExtension):
    """What the host loads."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        view_settings.add_route()  # here, because ComfyUI 0.3 does not call on_load
        return [
            *ksampler.NODES,
            *custom_sampling.NODES,
            *model_patch.NODES,
            *stitching.NODES,
            *detection.NODES,
            *correction.NODES,
            *calibration.NODES,
            *mask_preview.NODES,
            *views.NODES,
            *compare.NODES,
            *gate.NODES,
            *saving.NODES,
            *rivals.NODES,
            *uncertainty.NODES,
            *demo_model.NODES,
        ]

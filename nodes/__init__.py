"""The ComfyUI nodes. Each has a schema, adapts its inputs and makes one call into the core."""

from comfy_api.latest import ComfyExtension, io

from . import (
    nodes_baselines,
    nodes_bayesdiff,
    nodes_calibrate,
    nodes_compare,
    nodes_correction,
    nodes_custom_sampling,
    nodes_demo,
    nodes_detection,
    nodes_drafts,
    nodes_mask_preview,
    nodes_model_patch,
    nodes_sampler,
    nodes_save,
    nodes_select,
    nodes_stitch,
    nodes_teach,
    nodes_views,
)
from .page import preferences


class AscedExtension(ComfyExtension):
    """The extension that ComfyUI loads."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        preferences.add_route()  # here, because ComfyUI 0.3 does not call on_load
        return [
            *nodes_sampler.NODES,
            *nodes_custom_sampling.NODES,
            *nodes_drafts.NODES,
            *nodes_model_patch.NODES,
            *nodes_stitch.NODES,
            *nodes_detection.NODES,
            *nodes_correction.NODES,
            *nodes_calibrate.NODES,
            *nodes_teach.NODES,
            *nodes_mask_preview.NODES,
            *nodes_views.NODES,
            *nodes_compare.NODES,
            *nodes_select.NODES,
            *nodes_save.NODES,
            *nodes_baselines.NODES,
            *nodes_bayesdiff.NODES,
            *nodes_demo.NODES,
        ]

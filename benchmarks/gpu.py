"""Speed and memory on a GPU: ``make bench-gpu``, or ``python -m benchmarks.gpu`` with ASCED_COMFYUI set.

Real architectures with random weights in the real ComfyUI: stock KSampler against a watched run, a corrected run and
drafts, in paired rounds; peak memory; and how often a run waits for the device. Each model and form of its weights has
a process of its own, and each row is stored as soon as it is measured: what fails is named with its reason and the rest
goes on; the next call measures only what is missing. Writes docs/benchmarks/speed-gpu.json and speed-gpu.md, with
``--quick`` output/bench-gpu/ instead.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu_models import MODELS
from benchmarks.gpu_report import as_markdown

ROOT = Path(__file__).resolve().parent.parent
DOCS, OUTPUT = ROOT / "docs" / "benchmarks", ROOT / "output" / "bench-gpu"
COMFYUI = "ASCED_COMFYUI"
NAME = "speed-gpu"
FIRST = ("runs", "waits", "runs with previews", "drafts", "drafts with previews")  # parts of a model's first form
OTHERS = ("runs", "waits")  # of its other forms, and of several images at once
NOT_QUICK = ("drafts with previews",)
ROUNDS, QUICK_ROUNDS, QUICK_MINUTES = 16, 6, 9.0
SECONDS, QUICK_SECONDS = 150.0, 25.0  # of one part; at least LEAST_ROUNDS are made
PROCESS_MINUTES, LEAST_SECONDS = 60.0, 20.0  # of a process
CANNOT, NOTHING, INTERRUPTED = 2, 1, 130  # exit codes
PROBE = (
    "import platform, sys, torch\n"
    "if sys.argv[1] == 'cpu': name = f'CPU ({platform.machine()})'\n"
    "elif not torch.cuda.is_available(): sys.exit(3)\n"
    "else:\n"
    "    card = torch.cuda.get_device_properties(0)\n"
    "    kind = f'ROCm {torch.version.hip}' if torch.version.hip else f'CUDA {torch.version.cuda}'\n"
    "    name = f'{card.name}, {card.total_memory / 2**30:.0f} GiB, {kind}'\n"
    "print(f'{name}, torch {torch.__version__}')"
)


@dataclass(frozen=True)
class Group:
    """What one process measures: the parts of one model in one form."""

    model: str
    form: str
    parts: tuple[str, ...]

    def key(self, part: str) -> str:
        """Name of a row."""
        return f"{self.model} | {self.form} | {part}"


class Store:
    """Rows by machine, in a file that is complete at any time."""

    def __init__(self, folder: Path, machine: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file, self._table = folder / f"{NAME}.json", folder / f"{NAME}.md"
        self.all: dict[str, dict[str, Any]] = json.loads(self._file.read_text("utf-8")) if self._file.exists() else {}
        self.rows = self.all.setdefault(machine, {})

    def has(self, key: str) -> bool:
        """True if a row has figures."""
        return "error" not in self.rows.get(key, {"error": ""})

    def put(self, key: str, row: dict[str, Any]) -> None:
        """Stores a row: to a new file first, so that an interruption leaves the old one."""
        self.rows[key] = row
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(self.all, indent=1) + "\n", encoding="utf-8")
        new.replace(self._file)

    def write_table(self, order: Sequence[str]) -> str:
        """Writes the tables of all machines; returns their text."""
        text = as_markdown(self.all, order)
        self._table.write_text(text, encoding="utf-8")
        return text


def groups(args: argparse.Namespace, models: Sequence[str]) -> list[Group]:
    """What there is to measure: first the usual form of each model, because the time may run out."""
    found = []
    for model in models:
        for turn, form in enumerate(MODELS[model].forms):
            if args.forms is None or form in args.forms:
                wanted = args.parts or [part for part in FIRST if not (args.quick and part in NOT_QUICK)]
                known = OTHERS if turn or MODELS[model].images > 1 else FIRST
                parts = tuple(part for part in known if part in wanted)
                found += [(turn, Group(model, form, parts))] * bool(parts)
    return [group for _, group in sorted(found, key=lambda pair: pair[0])]


def answers(job: dict[str, Any], log: Path, seconds: float) -> Iterator[dict[str, Any]]:
    """What a process measures, row by row; the last answer is an error if it stopped early."""
    surroundings = {**os.environ, "PYTHONUTF8": "1"}
    if job["device"] == "cuda":  # tools/dev.py sets it to one for the tests; a user's server has all threads
        surroundings.pop("OMP_NUM_THREADS", None)
    with log.open("a", encoding="utf-8") as errors:
        start, place = time.monotonic(), errors.tell()
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu_runs", json.dumps(job)], cwd=ROOT, text=True, encoding="utf-8",
            stdout=subprocess.PIPE, stderr=errors, env=surroundings,
        )  # fmt: skip
        clock = threading.Timer(seconds, child.kill)
        clock.start()
        try:
            assert child.stdout is not None
            for line in child.stdout:
                if line.startswith("ROW "):  # anything else was printed by ComfyUI or a library
                    yield json.loads(line.removeprefix("ROW "))
            code = child.wait()
        finally:
            clock.cancel()
            child.kill()
            child.wait()
    if code:
        late = time.monotonic() - start >= seconds
        with log.open(encoding="utf-8", errors="replace") as said:
            said.seek(place)
            last = next((line.strip() for line in reversed(said.read().splitlines()) if line.strip()), "")
        died = (
            f"was ended by signal {-code}" if code < 0 else f"ended with code {code}: {last}"
        )  # last words of an error
        yield {"error": f"stopped after {seconds:.0f} seconds" if late else died}


def measure(group: Group, store: Store, job: dict[str, Any], log: Path, until: float) -> None:
    """Measures the missing parts of a group; what follows a failure gets a new process."""
    missing = [part for part in group.parts if not store.has(group.key(part))]
    while missing:
        seconds = min(60 * PROCESS_MINUTES, until - time.monotonic())
        if seconds < LEAST_SECONDS:
            break
        begun = len(missing)
        for answer in answers({**job, "form": group.form, "parts": missing}, log, seconds):
            if missing:
                print(f"{group.key(missing[0])}: {answer.get('error') or 'measured'}", flush=True)
                store.put(group.key(missing.pop(0)), answer)
        if len(missing) == begun:  # it ended well, but said nothing
            store.put(group.key(missing.pop(0)), {"error": "gave no figures"})
    if missing:
        print(f"{group.model}, {group.form}: {', '.join(missing)} not measured, because the time was over.")


def machine_of(device: str) -> str | None:
    """The machine and what it runs on, as a heading; None without the device."""
    done = subprocess.run([sys.executable, "-c", PROBE, device], capture_output=True, text=True, check=False)
    version = Path(os.environ[COMFYUI], "comfyui_version.py")
    known = re.search(r'"(.+?)"', version.read_text("utf-8")) if version.exists() else None
    return None if done.returncode else f"{done.stdout.strip()}, ComfyUI {known[1] if known else 'of unknown version'}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), help="only these; tiny is for a try-out")
    forms = list(dict.fromkeys(form for spec in MODELS.values() for form in spec.forms))
    parser.add_argument("--forms", nargs="+", choices=forms, help="only these kinds of weights and compilers")
    parser.add_argument("--parts", nargs="+", choices=FIRST, help="only these comparisons")
    quick = f"sd15 and sdxl, few rounds, at most {QUICK_MINUTES:g} minutes; leaves docs unchanged"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--minutes", type=float, help="begin nothing, and stop what runs, after this time")
    parser.add_argument("--rounds", type=int, help="of each comparison, 1 or more")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu measures the model tiny only")
    parser.add_argument("--again", action="store_true", help="measure what is stored for this machine once more")
    parser.add_argument("--out", type=Path, help="folder for the results, in place of docs/benchmarks")
    return parser.parse_args()


def _obstacle(args: argparse.Namespace, models: Sequence[str]) -> str:
    """Why nothing can be measured, as a sentence; empty if it can."""
    if not os.environ.get(COMFYUI) or not Path(os.environ[COMFYUI], "main.py").is_file():
        return f"The GPU benchmark runs in a real ComfyUI: set {COMFYUI} to its folder."
    if args.device == "cpu" and list(models) != ["tiny"]:
        return "On the CPU only the tiny model is measured: add --models tiny, or leave --device cpu out."
    if args.rounds is not None and args.rounds < 1:
        return f"--rounds must be 1 or more, got {args.rounds}."
    if not groups(args, models):
        return "These models have no such forms or parts: leave --forms and --parts out to measure all there are."
    return ""


def main() -> int:
    args = _arguments()
    models = args.models or (["sd15", "sdxl"] if args.quick else [name for name in MODELS if name != "tiny"])
    if obstacle := _obstacle(args, models):
        print(obstacle, file=sys.stderr)
        return CANNOT
    if (machine := machine_of(args.device)) is None:
        print(
            "The GPU benchmark needs a CUDA device and a torch that can use it, and found none: run it on a machine "
            "with an NVIDIA card and its CUDA build of torch (COMFYUI_PYTHON names a Python that has one).",
            file=sys.stderr,
        )
        return CANNOT
    store = Store(args.out or (OUTPUT if args.quick or args.device == "cpu" else DOCS), machine)
    chosen, code = groups(args, models), 0
    keys = [group.key(part) for group in chosen for part in group.parts]
    if args.again:
        for key in keys:
            store.rows.pop(key, None)
    log = (args.out or OUTPUT) / f"{NAME}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    minutes = args.minutes or (QUICK_MINUTES if args.quick else float("inf"))
    until = time.monotonic() + 60 * minutes
    rounds = args.rounds or (QUICK_ROUNDS if args.quick else ROUNDS)
    limits = {"rounds": rounds, "seconds": QUICK_SECONDS if args.quick else SECONDS, "device": args.device}
    if known := sum(store.has(key) for key in keys):
        print(f"{known} of {len(keys)} rows are measured already; --again measures them once more.", flush=True)
    try:
        for group in chosen:
            measure(group, store, {**limits, "model": group.model}, log, until)
    except KeyboardInterrupt:
        print("Interrupted: what was measured is kept, and the next call goes on from there.")
        code = INTERRUPTED
    print(store.write_table(list(MODELS)))
    return code or (0 if any(map(store.has, keys)) else NOTHING)


if __name__ == "__main__":
    sys.exit(main())

"""Runs the benchmarks in turn: ``make bench``, ``make bench-quick``.

An interrupted part resumes where it stopped. With ``--quick`` every part is small and docs stay unchanged.
"""

from __future__ import annotations

import subprocess
import sys

OVER_SEEDS = ("table1", "sweeps", "picking")  # these also accept --images and --address
ONLY_FULL = ("sweeps", "draft_cost", "detector", "scaling", "pictures")  # not in the quick form, which takes minutes
PARTS = ("table1", "table2", "confidence", "place", "figures", "cost", "picking")


def main() -> int:
    quick = [word for word in sys.argv[1:] if word == "--quick"]
    for part in PARTS if quick else (*PARTS, *ONLY_FULL):
        options = sys.argv[1:] if part in OVER_SEEDS else ["--write"] if part == "detector" else quick
        if code := subprocess.run([sys.executable, "-m", f"benchmarks.{part}", *options], check=False).returncode:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())

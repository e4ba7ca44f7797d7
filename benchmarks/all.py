"""Every benchmark of the paper's comparison, one after the other: ``make bench``, ``make bench-quick``.

Each part goes on where it was interrupted. With ``--quick`` all of it is small and nothing is written to docs.
"""

from __future__ import annotations

import subprocess
import sys

OVER_SEEDS = ("table1", "sweeps")  # these take --images and --address as well
PARTS = ("table1", "table2", "sweeps", "figures", "cost")


def main() -> int:
    quick = [word for word in sys.argv[1:] if word == "--quick"]
    for part in PARTS if quick else (*PARTS, "pictures"):
        options = sys.argv[1:] if part in OVER_SEEDS else quick
        if code := subprocess.run([sys.executable, "-m", f"benchmarks.{part}", *options], check=False).returncode:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())

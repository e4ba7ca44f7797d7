"""Every benchmark of the paper's comparison, one after the other: ``make bench``, ``make bench-quick``.

Each part goes on where it was interrupted. With ``--quick`` all of it is small and nothing is written to docs.
"""

from __future__ import annotations

import subprocess
import sys

PARTS = ("table1", "table2", "sweeps", "pictures")
QUICK = PARTS[:3]


def main() -> int:
    for part in PARTS:
        options = [] if part == "table2" and "--address" in sys.argv else sys.argv[1:]
        if code := subprocess.run([sys.executable, "-m", f"benchmarks.{part}", *options], check=False).returncode:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())

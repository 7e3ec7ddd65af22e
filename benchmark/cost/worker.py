"""The process of one cost cell: ``python -m benchmark.cost.worker CELL OUT``, the cell as JSON, its record's file.

Each cell has its own, so that nothing an earlier cell left in caches or in memory is measured, and an end by the
kernel for want of memory is the end of one cell.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from benchmark.cost.cell import Cell


def main(cell: str, out: str) -> None:
    """Measure ``cell`` and write its record to ``out``."""
    _limit_memory()
    from benchmark.cost.measure import measure

    Path(out).write_text(measure(Cell.model_validate_json(cell)).model_dump_json(), encoding="utf-8")


def _limit_memory() -> None:
    """Refuse memory that the machine does not have, rather than be killed, or have others killed, for it."""
    available = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("MemAvailable")
    )
    resource.setrlimit(resource.RLIMIT_DATA, (available, available))


if __name__ == "__main__":
    main(*sys.argv[1:])

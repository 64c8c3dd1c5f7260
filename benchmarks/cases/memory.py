"""Peak memory of steps above the model and its data, each engine in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from cases.timing import Row, row

#: engine -> how it is called in the child, see `child`
ENGINES = ("floor", "lianhe UPGrad", "torchjd chunk 1", "torchjd vmap")


def rows(quick: bool) -> list[Row]:
    """Peak MB, convolutional network with 8 and 40 tasks."""
    found: list[Row] = []
    for tasks in (8,) if quick else (8, 40):
        peaks = {name: _measured("CNN", tasks, name) for name in ENGINES}
        goal = peaks["torchjd chunk 1"]
        case = f"peak memory, CNN T={tasks}"
        for name, peak in peaks.items():
            found.append(row(case, name, peak, "MB", goal if name.startswith("lianhe") else None))
    return found


def _measured(net: str, tasks: int, engine: str) -> float:
    command = [
        sys.executable,
        str(Path(__file__).parents[1] / "multitask.py"),
        "--child",
        json.dumps([net, tasks, engine]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])


def child(net: str, tasks: int, engine: str) -> float:
    """Take four steps; return how far the resident memory rose above that before the first one, in MB."""
    import threading
    import time

    from cases import engines
    from cases.problems import Problem

    problem = Problem(net, tasks)
    step = {
        "floor": lambda: engines.plain(problem),
        "lianhe UPGrad": lambda: engines.lianhe(problem, engines.lh.UPGrad(), method="sequential"),
        "torchjd chunk 1": lambda: engines.torchjd(problem, engines.upgrad(), 1),
        "torchjd vmap": lambda: engines.torchjd(problem, engines.upgrad(), None),
    }[engine]()
    before, peak, done = _resident(), [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], _resident())
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(4):
        step()
    done.set()
    watcher.join()
    return (peak[0] - before) / 2**20


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096

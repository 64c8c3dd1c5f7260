"""Examples as a user runs them, and parts of them as modules."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

MULTITASK = Path(__file__).parents[2] / "examples" / "multitask"


def printed(name: str, *arguments: str) -> str:
    """What an example prints; a warning in it is an error."""
    command = [sys.executable, "-W", "error", str(MULTITASK / f"{name}.py"), *arguments]
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def module(name: str) -> ModuleType:
    """A module beside the examples that imports none of the others."""
    spec = importlib.util.spec_from_file_location(name, MULTITASK / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded

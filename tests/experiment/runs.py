"""Runs of small specifications, and whether two of them are the same."""

from __future__ import annotations

from pathlib import Path

from lianhe.experiment.config import load_spec
from lianhe.experiment.run import start_run


def run(text: str, directory: Path) -> Path:
    """Run a specification without interruption."""
    start_run(load_spec(written(text, directory)), directory)
    return directory


def written(text: str, directory: Path) -> Path:
    """Write a specification beside the directory of its run."""
    path = directory.with_suffix(".toml")
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def contents(directory: Path) -> dict[str, bytes]:
    """Every file of a run; the report's bytes depend on its numbers only, so it counts too."""
    return {
        str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()
    }

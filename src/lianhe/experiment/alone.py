"""One process at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from lianhe.core.errors import SpecError

try:
    import fcntl
except ImportError:  # not on Windows: there, nobody is kept out
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def alone(path: Path, otherwise: str) -> Iterator[None]:
    """Keep other processes out; the lock falls when this process ends, in whatever way.

    Args:
        path: of the file that is locked; made if it is not there.
        otherwise: what is said if another process holds it.

    Raises:
        SpecError: if another process holds it.
    """
    with path.open("ab") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SpecError(otherwise) from None
        yield

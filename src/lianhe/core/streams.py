"""Counter-based random streams: what is drawn depends on *what for*, never on *when*.

A stream is keyed by (seed, round, participant, step). So no result depends on the order in which
participants work, on how many of them there are, or on where a run was interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b

import torch


@dataclass(frozen=True, slots=True)
class Stream:
    """One key, from which generators are made.

    Args:
        seed: seed of the run.
        round: number of the round, from 0.
        participant: name of the participant, "" for what all of them share.
        step: number of the local step, or a purpose ("batches", "order").

    Example:
        >>> a, b = Stream(0, 3, "north"), Stream(0, 3, "north")
        >>> bool((torch.rand(4, generator=a.generator()) == torch.rand(4, generator=b.generator())).all())
        True
        >>> a.key() == Stream(0, 3, "south").key()
        False
    """

    seed: int
    round: int = 0
    participant: str = ""
    step: int | str = 0

    def key(self) -> int:
        """Return the 63-bit integer that this key stands for."""
        # As Python writes it: names may hold any character, and step 0 is not the purpose "0".
        text = repr((self.seed, self.round, self.participant, self.step))
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") >> 1

    def generator(self) -> torch.Generator:
        """Return a fresh CPU generator seeded by the key."""
        return torch.Generator().manual_seed(self.key())

    def seed_global(self, device: torch.device) -> None:
        """Seed torch's default generators, which dropout and the like draw from."""
        torch.default_generator.manual_seed(self.key())
        if device.type == "cuda":
            torch.cuda.manual_seed(self.key())
        elif device.type == "mps":
            torch.mps.manual_seed(self.key())


@contextmanager
def untouched_global_state() -> Iterator[None]:
    """Give back torch's global random state on leaving: fitting must not disturb its caller."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        yield

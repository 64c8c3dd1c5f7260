"""Sentences said to an assistant: what is wanted, and which words say the details."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from lianhe.core.errors import UnknownNameError
from lianhe.datasets._files import read_arrays
from lianhe.datasets.dataset import MISSING_CLASS, Dataset

_PARTS = ("train", "dev", "test")

#: what the first two word codes stand for: filling up, and a word that training did not have twice
_FILLING, _UNKNOWN = "", "?"


@dataclass(frozen=True)
class SnipsNames:
    """What the codes of `load_snips` stand for.

    Args:
        words: by code, 4,392 of them; 0 fills short sentences up, 1 is any word that is not in the list.
        intents: the seven classes of a sentence.
        slots: the 72 tags of a word: "O", or "B-" where a span begins and "I-" where it goes on.
    """

    words: tuple[str, ...]
    intents: tuple[str, ...]
    slots: tuple[str, ...]


def load_snips(part: str = "train") -> Dataset:
    """Return sentences of the SNIPS voice assistant with two targets: the intent, and the slot of each word.

    x, int64 [n, 35], holds words as codes (`snips_names().words`), filled up with 0. The vocabulary is made
    of the words that the training sentences hold twice or more. The targets, int64:

    - `intent` [n]: one of 7, such as "PlayMusic".
    - `slots` [n, 35]: one of 72 tags a word, -100 where the sentence is filled up.

    Args:
        part: "train" (13,084 sentences), "dev" (700) or "test" (700), as Goo et al. divide them.

    Raises:
        UnknownNameError: if there is no such part.

    Source: Coucke et al., Snips Voice Platform: an embedded Spoken Language Understanding system for
    private-by-design voice interfaces, arXiv 1805.10190, 2018, CC0. In this division: Goo et al., Slot-Gated
    Modeling for Joint Slot Filling and Intent Prediction, NAACL 2018.

    Example:
        >>> load_snips("test")
        Dataset('snips', rows=700, x=[35], y={intent: int64, slots: int64})
        >>> first = load_snips("test").x[0]
        >>> " ".join(snips_names().words[code] for code in first if code)
        'add ? ? to the grime instrumentals playlist'
    """
    if part not in _PARTS:
        raise UnknownNameError("part of SNIPS", part, _PARTS)
    texts, names = _texts(), snips_names()
    words, slots = texts[f"{part}_tokens"], texts[f"{part}_slots"]
    length = max(len(sentence) for other in _PARTS for sentence in texts[f"{other}_tokens"])
    intents = [names.intents.index(intent) for (intent,) in texts[f"{part}_intent"]]
    y = {"intent": torch.tensor(intents), "slots": _codes(slots, names.slots, length, MISSING_CLASS)}
    return Dataset(_codes(words, names.words, length, 0), y, (), "snips", "CC0")


@cache
def snips_names() -> SnipsNames:
    """Return the words, intents and slots that the codes of `load_snips` stand for.

    Example:
        >>> snips_names().intents[:3], snips_names().slots[:2], snips_names().words[2:5]
        (('AddToPlaylist', 'BookRestaurant', 'GetWeather'), ('B-album', 'B-artist'), ('the', 'a', 'in'))
    """
    texts = _texts()
    counts = Counter(word for sentence in texts["train_tokens"] for word in sentence)
    words = sorted((word for word, count in counts.items() if count > 1), key=lambda w: (-counts[w], w))
    return SnipsNames(
        (_FILLING, _UNKNOWN, *words), _different(texts["train_intent"]), _different(texts["train_slots"])
    )


@cache
def _texts() -> Mapping[str, Sequence[Sequence[str]]]:
    """Every array of the file, cut into words."""
    arrays = read_arrays("intent_slot_snips.npz")
    return {name: [str(text).split() for text in array] for name, array in arrays.items()}


def _different(texts: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(sorted({word for text in texts for word in text}))


def _codes(texts: Sequence[Sequence[str]], names: Sequence[str], length: int, filling: int) -> Tensor:
    """Codes [n, length] of words; a word without a name is 1, which is "?" among words."""
    code = {name: i for i, name in enumerate(names)}
    rows = torch.full((len(texts), length), filling)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text)] = torch.tensor([code.get(word, 1) for word in text])
    return rows

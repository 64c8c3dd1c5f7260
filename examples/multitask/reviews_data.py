"""Product reviews as tensors: the words, who writes, and about what."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FILE = Path(__file__).parents[1] / "data" / "womens_reviews.npz"

#: words of a review that are read, and how often a word or an article must come to have a code of its own
LONGEST, FREQUENT_WORD, FREQUENT_ITEM = 100, 20, 20

#: classes by task
TASKS = {"recommended": 2, "rating": 5, "department": 6}


@cache
def load() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The 22,628 reviews: x = words [n, 100], item [n] and age [n, 1]; y = recommended, rating, department.

    Words and items are those that come 20 times or more in all reviews; no label is looked at for that.
    `rating` is one less than the number of stars, `age` is in tens of years from 43.
    """
    with np.load(FILE, allow_pickle=False) as file:
        column = {name: file[name] for name in file.files}
    texts = [re.findall(r"[a-z]+(?:'[a-z]+)?", str(text).lower())[:LONGEST] for text in column["text"]]
    x = {
        "words": _codes(texts, FREQUENT_WORD, first=2),
        "item": _codes([[item] for item in column["clothing_id"].tolist()], FREQUENT_ITEM, first=1)[:, 0],
        "age": torch.from_numpy(column["age"]).float()[:, None] / 10 - 4.3,
    }
    y = {name: torch.from_numpy(column[name]).long() for name in TASKS}
    return x, {**y, "rating": y["rating"] - 1}


def _codes(rows: Sequence[Sequence[str | int]], frequent: int, first: int) -> Tensor:
    """Codes of names, from `first` on: the one before is for rare names, and 0 fills short rows up."""
    counts = Counter(name for row in rows for name in row)
    code = {name: i for i, name in enumerate(_frequent(counts, frequent), first)}
    codes = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for into, row in zip(codes, rows, strict=True):
        into[: len(row)] = torch.tensor([code.get(name, first - 1) for name in row])
    return codes


def _frequent(counts: Counter[str | int], least: int) -> Iterable[str | int]:
    return sorted(name for name, count in counts.items() if count >= least)

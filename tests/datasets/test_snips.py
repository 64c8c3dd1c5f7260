"""SNIPS: sentences as codes, an intent a sentence and a slot a word."""

import pytest
import torch

from lianhe import UnknownNameError
from lianhe.datasets import MISSING_CLASS, load_snips, snips_names


@pytest.mark.parametrize(("part", "rows"), [("train", 13_084), ("dev", 700), ("test", 700)])
def test_shapes_and_types(part: str, rows: int) -> None:
    data = load_snips(part)
    assert data.x.shape == data.y["slots"].shape == (rows, 35)
    assert data.x.dtype == data.y["intent"].dtype == data.y["slots"].dtype == torch.int64
    assert data.licence == "CC0"


def test_no_part_shares_a_tensor_with_another_call() -> None:
    assert load_snips("dev").x.data_ptr() != load_snips("dev").x.data_ptr()


def test_a_word_has_a_slot_and_filling_has_none() -> None:
    data = load_snips("train")
    assert torch.equal(data.x == 0, data.y["slots"] == MISSING_CLASS)
    there = data.x != 0
    assert bool((there.sum(1) >= 1).all())
    assert bool((there[:, :-1] >= there[:, 1:]).all())  # filled up at the end only


def test_codes_are_within_their_names() -> None:
    names, data = snips_names(), load_snips("train")
    assert (len(names.words), len(names.intents), len(names.slots)) == (4_392, 7, 72)
    assert int(data.x.max()) == len(names.words) - 1
    assert sorted(set(data.y["slots"].flatten().tolist()) - {MISSING_CLASS}) == list(range(72))
    assert data.y["intent"].bincount(minlength=7).min() == 1_818


def test_codes_read_back_as_the_sentence() -> None:
    names, data = snips_names(), load_snips("train")
    words = [names.words[c] for c in data.x[0] if c]
    assert words == ["listen", "to", "?", "?", "?", "on", "google", "music"]
    slots = [names.slots[c] for c in data.y["slots"][0] if c != MISSING_CLASS]
    assert slots == ["O", "O", "B-artist", "O", "B-album", "O", "B-service", "I-service"]
    assert names.intents[data.y["intent"][0]] == "PlayMusic"


def test_the_vocabulary_is_of_training_words_that_come_twice() -> None:
    data = load_snips("train").x
    counts = data[data > 1].bincount(minlength=4_392)[2:]
    assert counts.min() == 2
    assert bool((counts[:-1] >= counts[1:]).all())  # the most frequent first
    assert int((load_snips("test").x == 1).sum()) == 564  # of 6,354 words


def test_every_i_goes_on_a_span_of_its_kind() -> None:
    """The tags are IOB2, so that spans can be read without guessing."""
    names, data = snips_names(), load_snips("train").y["slots"]
    for row in data.tolist():
        tags = [names.slots[c] for c in row if c != MISSING_CLASS]
        for before, tag in zip(["O", *tags], tags, strict=False):
            assert not tag.startswith("I-") or before in (f"B-{tag[2:]}", tag)


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(UnknownNameError, match="part of SNIPS 'valid'"):
        load_snips("valid")

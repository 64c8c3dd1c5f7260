"""Random streams: what is drawn depends on what for, never on when."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lianhe.core.streams import Stream, untouched_global_state

#: any text, "\x1f", digits, quotes and lone surrogates included
NAMES = st.text(st.characters(), max_size=4) | st.sampled_from(
    ["", "0", "a\x1f0", "a\x1fb", "'", "a', 'b", "\ud800"]
)
KEYS = st.builds(
    Stream,
    st.integers(0, 2**70),
    st.integers(0, 9),
    NAMES,
    st.integers(0, 9) | NAMES | st.sampled_from(["batches"]),
)


@given(KEYS, KEYS)
def test_different_keys_are_different_streams_and_equal_ones_are_equal(a, b):
    assert (a.key() == b.key()) == (a == b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Stream(0, 0, "a", 0), Stream(0, 0, "a", "0")),
        (Stream(0, 0, "a\x1f0"), Stream(0, 0, "a", "0\x1f0")),
        (Stream(1, 2), Stream(12)),
        (Stream(0, 1, "2"), Stream(0, 12, "")),
        (Stream(0, 0, "a', 'b", "c"), Stream(0, 0, "a", "b', 'c")),
    ],
)
def test_keys_that_look_alike_differ(a, b):
    assert a.key() != b.key()
    assert not torch.equal(torch.rand(8, generator=a.generator()), torch.rand(8, generator=b.generator()))


def test_keys_are_the_same_in_every_process_and_version():
    """A checkpoint that is resumed by a later version must draw what it would have drawn."""
    assert Stream(0).key() == 1677699900922688099
    assert Stream(7, 3, "north", "batches").key() == 4327247359418139662


@given(KEYS)
def test_a_key_is_a_seed_that_torch_accepts(stream):
    assert 0 <= stream.key() < 2**63
    first = torch.rand(3, generator=stream.generator())
    assert torch.equal(first, torch.rand(3, generator=stream.generator()))


def test_drawing_from_a_generator_touches_neither_another_nor_the_world():
    before = torch.random.get_rng_state()
    a, b = Stream(0, 1, "a").generator(), Stream(0, 1, "b").generator()
    expected = torch.rand(4, generator=Stream(0, 1, "b").generator())
    torch.rand(99, generator=a)
    assert torch.equal(torch.rand(4, generator=b), expected)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_seeding_the_world_is_undone_on_leaving():
    before = torch.random.get_rng_state()
    with pytest.raises(KeyError), untouched_global_state():
        Stream(3).seed_global(torch.device("cpu"))
        assert torch.equal(torch.rand(2), torch.rand(2, generator=Stream(3).generator()))
        raise KeyError
    assert torch.equal(torch.random.get_rng_state(), before)

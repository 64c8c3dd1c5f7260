"""A head's part of a representation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lianhe.core.errors import SpecError
from lianhe.nets import Cascade, Pick


def test_by_name_and_by_position() -> None:
    a, b = torch.zeros(2, 3), torch.ones(2, 3)
    assert Pick("b")({"a": a, "b": b}) is b
    assert Pick(0)((a, b)) is a
    assert Pick(-1)([a, b]) is b
    assert Pick(7)({7: a}) is a


def test_the_body_gets_the_part_and_what_is_read_of_other_tasks() -> None:
    body = Cascade(nn.Linear(3 + 2, 4), reading="none")
    z, other = torch.randn(2, 3), torch.randn(2, 2)
    torch.testing.assert_close(Pick("a", body)({"a": z}, other), body.body(torch.cat([z, other], 1)))


@pytest.mark.parametrize(
    ("key", "z", "message"),
    [
        ("c", {"a": 0, "b": 1}, r"no such part \(only \['a', 'b'\]\)"),
        (2, (0, 1), "2 parts, from 0"),
        (-3, (0, 1), "2 parts, from 0"),
        ("a", (0, 1), "2 parts, from 0"),
        (0, torch.zeros(2), "it is a Tensor"),
    ],
)
def test_a_part_that_is_not_there(key, z, message) -> None:
    with pytest.raises(SpecError, match=message):
        Pick(key)(z)

"""A head that reads the predictions of other tasks."""

from __future__ import annotations

import pytest
import torch
from tests.toys import MISSING, assert_close, head, seeded, table, task_spec, weights_of
from torch import nn

from lianhe.core.engine import LoopEngine
from lianhe.core.errors import UnknownNameError
from lianhe.engines import SharedEngine
from lianhe.experiment.fit import fit
from lianhe.nets import Cascade
from lianhe.participants import Task


def test_predictions_are_joined_as_they_are_to_be_read() -> None:
    z, kind, flag = torch.randn(4, 5), torch.randn(4, 3), torch.randn(4)
    body = nn.Linear(5 + 3 + 1, 2)
    both = Cascade(body, reading=("softmax", "sigmoid"))(z, kind, flag)
    p = kind.exp() / kind.exp().sum(1, keepdim=True)
    torch.testing.assert_close(both, body(torch.cat([z, p, 1 / (1 + (-flag[:, None]).exp())], 1)))
    plain = Cascade(body, reading="none")(z, kind, flag)
    torch.testing.assert_close(plain, body(torch.cat([z, kind, flag[:, None]], 1)))


def test_maps_are_joined_by_channel() -> None:
    cascade = Cascade(nn.Conv2d(4 + 3, 2, 1))
    assert cascade(torch.randn(2, 4, 6, 6), torch.randn(2, 3, 6, 6)).shape == (2, 2, 6, 6)


def test_readings() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'softmax'"):
        Cascade(nn.Linear(5, 2), reading="softmaks")
    with pytest.raises(ValueError, match="zip"):
        Cascade(nn.Linear(5, 2), reading=("softmax", "none"))(torch.zeros(2, 2), torch.zeros(2, 3))


@pytest.mark.parametrize("detach", [False, True])
def test_what_is_read_is_taught_unless_it_is_detached(detach) -> None:
    x, y = table()
    reader = Cascade(seeded(lambda: nn.Linear(5 + 3, 1), 4))
    flag = Task("flag", reader, "binary_cross_entropy", reads=("kind",), detach=detach)
    # Where it has no label of its own, a head moves only if its reader teaches it.
    none = {"kind": torch.full_like(y["kind"], MISSING), "flag": y["flag"]}
    given = task_spec((x, none), participants=[Task("kind", head(3)), flag])
    shared, loop = (fit(given, engine=engine) for engine in (SharedEngine(), LoopEngine()))
    assert_close(weights_of(shared), weights_of(loop))
    before, after = (dict(h.named_parameters()) for h in (head(3), shared.model.head("kind")))
    assert all(torch.equal(before[name], after[name]) is detach for name in before)

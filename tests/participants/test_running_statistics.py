"""A batch counts once in running statistics, however often, and by whom, it is looked at."""

from __future__ import annotations

import pytest
from tests.toys import assert_close, fit, head, net, seeded, table, task_spec, weights_of
from torch import nn

from lianhe.aggregation import FAMO, UPGrad
from lianhe.core.engine import LoopEngine
from lianhe.engines import SharedEngine
from lianhe.nets import Cascade
from lianhe.participants import Task
from lianhe.regularisation import PGD


def spec(detach, **options):
    """Two heads with batch normalisation, the second of which reads the first."""
    x, y = table()
    first = seeded(lambda: nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 1)), 3)
    body = seeded(lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 1)), 4)
    tasks = [
        Task("size", first, "mse"),
        Task("again", Cascade(body, "none"), "mse", reads=("size",), detach=detach),
        Task("third", Cascade(head(1, inputs=7), "none"), "mse", reads=("size", "again")),
    ]
    data = (x, {"size": y["size"], "again": -y["size"], "third": 2 * y["size"]})
    return task_spec(data, participants=tasks, encoder=net(norm=True), rounds=3, **options)


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"aggregator": UPGrad()}, {"aggregator": FAMO()}, {"adversarial": PGD(0.1, 2)}],
    ids=["plain", "upgrad", "famo", "attacked"],
)
def test_heads_that_are_read_count_a_batch_once(detach, options):
    ours, theirs = (fit(spec(detach, **options), engine=engine()) for engine in (SharedEngine, LoopEngine))
    counted = {name: int(t) for name, t in weights_of(ours).items() if "num_batches" in name}
    assert len(counted) == 3
    assert set(counted.values()) == {3}
    assert_close(weights_of(ours), weights_of(theirs), 1e-9)

from __future__ import annotations

import pytest
import torch
from tests.aggregation.common import as_rows
from tests.aggregation.oracles import SIZES, spread_losses
from tests.linalg.cases import rows
from tests.toys import F64, seeded
from torch import nn

from lianhe.aggregation import DBMTL
from lianhe.core.errors import AggregationError
from lianhe.core.spec import Spec
from lianhe.experiment.fit import fit
from lianhe.participants import Task


@pytest.mark.parametrize("m", SIZES)
def test_gradients_of_log_losses_at_the_length_of_the_longest(m):
    for seed in range(5):
        lost = spread_losses(m, seed)
        matrix = spread_losses(m, seed + 1)[:, None] * rows(m, m + 3, seed)
        logs = matrix / lost[:, None]
        lengths = logs.norm(dim=1)
        expected = (logs * (lengths.max() / lengths)[:, None]).sum(0)
        ours = DBMTL()(as_rows(matrix, of_losses=lost))
        torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-8 * float(lengths.max()))


def test_a_row_of_zeros_stays_one():
    matrix = torch.tensor([[0.0, 0.0], [0.0, 2.0]], dtype=F64)
    weights = DBMTL().weigh(as_rows(matrix, of_losses=torch.tensor([0.5, 4.0], dtype=F64)))
    assert weights.tolist() == [2.0, 0.25]


def test_a_step_of_the_paper_on_encoder_and_heads():
    """By autograd: heads follow their own log losses, the encoder their balanced gradients."""
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    y = {"a": x[:, 0] * 3, "b": x[:, 1] - 40}
    encoder = seeded(lambda: nn.Linear(3, 4), 1)
    heads = {n: seeded(lambda: nn.Linear(4, 1), 2 + i) for i, n in enumerate(y)}
    tasks = [Task(n, heads[n], "mse") for n in y]
    spec = Spec(tasks, encoder=encoder, data=(x, y), aggregator=DBMTL(), rounds=1, optimizer="sgd", lr=0.01)
    model = fit(spec).model
    logs = {n: nn.functional.mse_loss(heads[n](encoder(x))[:, 0], y[n]).log() for n in y}
    for n, head in heads.items():
        step = torch.autograd.grad(logs[n], head.weight, retain_graph=True)[0]
        torch.testing.assert_close(model.head(n).weight, head.weight - 0.01 * step, rtol=1e-12, atol=1e-14)
    parameters = list(encoder.parameters())
    each = [torch.autograd.grad(log, parameters, retain_graph=True) for log in logs.values()]
    lengths = [torch.cat([g.flatten() for g in gs]).norm() for gs in each]
    step = sum(max(lengths) / length * gs[0] for length, gs in zip(lengths, each, strict=True))
    torch.testing.assert_close(model.encoder.weight, encoder.weight - 0.01 * step, rtol=1e-12, atol=1e-14)


def test_a_loss_that_is_not_positive_is_named():
    with pytest.raises(AggregationError, match="DBMTL: loss of 'site0' is -1, but must be positive"):
        DBMTL().weigh(as_rows(torch.eye(2), of_losses=torch.tensor([-1.0, 1.0])))

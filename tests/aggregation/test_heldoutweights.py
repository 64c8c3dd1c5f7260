from __future__ import annotations

import pytest
import torch
from tests.aggregation.common import as_rows
from tests.linalg.cases import rows

from lianhe.aggregation import HeldOutWeights
from lianhe.aggregation.heldoutweights import _loss, _walk, mixture_weights
from lianhe.core.errors import AggregationError


def experts(m: int, n: int, classes: int, seed: int = 0):
    """Predictions [m, n, classes] of experts that differ in how much they know, and the labels [n]."""
    labels = torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))
    skill = torch.linspace(0, 2, m, dtype=torch.float64)[:, None, None]
    scores = rows(m, n * classes, seed).view(m, n, classes)
    return (scores + skill * torch.nn.functional.one_hot(labels, classes)).softmax(2), labels


def em(likelihoods, steps):
    """The readable twin: monotone, and exact in the limit."""
    w = torch.full((len(likelihoods),), 1 / len(likelihoods), dtype=torch.float64)
    for _ in range(steps):
        w = w * (likelihoods / (w @ likelihoods)).mean(1)
    return w


def pick(predictions, labels):
    return predictions[:, torch.arange(len(labels)), labels]


@pytest.mark.parametrize(
    ("m", "n", "classes"), [(1, 9, 2), (2, 30, 2), (4, 200, 10), (8, 60, 3), (12, 10, 3)]
)
def test_optimality(m, n, classes):
    predictions, labels = experts(m, n, classes, seed=m)
    w = HeldOutWeights(labels).weigh(as_rows(predictions.view(m, -1)))
    P = pick(predictions, labels)
    ratio = (P / (w @ P)).mean(1)
    assert (ratio <= 1 + 1e-9).all()
    assert (w * (ratio - 1)).abs().max() <= 1e-9


@pytest.mark.parametrize("scale", [0.3, 3, 30, 100])
@pytest.mark.parametrize("m", [2, 7])
def test_optimality_of_mixtures_of_overconfident_experts(m, scale):
    for seed in range(40):
        P = (scale * rows(m, 2 + seed % 20, seed)).sigmoid().clamp(min=1e-12)
        w = mixture_weights(P)
        ratio = (P / (w @ P)).mean(1)
        assert float(w.sum()) == pytest.approx(1, abs=1e-12)
        assert (ratio <= 1 + 1e-9).all()
        assert (w * (ratio - 1)).abs().max() <= 1e-9


def test_a_step_that_goes_too_far_is_shortened():
    P = torch.tensor([[0.9, 0.2], [0.3, 0.8]], dtype=torch.float64)
    w, best = torch.tensor([0.7, 0.3], dtype=torch.float64), mixture_weights(P)
    for target in (torch.tensor([0.0, 1.0]), best):
        reached = _walk(P, w, target.double())
        assert _loss(P, reached) < _loss(P, w)
    torch.testing.assert_close(reached, best)


@pytest.mark.parametrize("seed", range(3))
def test_where_em_arrives_in_the_end(seed):
    predictions, labels = experts(3, 100, 4, seed)
    P = pick(predictions, labels)
    torch.testing.assert_close(mixture_weights(P), em(P, 20_000), rtol=0, atol=1e-4)
    assert -(mixture_weights(P) @ P).log().mean() <= -(em(P, 20_000) @ P).log().mean() + 1e-12


def test_the_mixture_is_better_than_each_expert_and_than_the_mean():
    predictions, labels = experts(3, 100, 4)
    fused = HeldOutWeights(labels)(predictions.view(3, -1)).view(100, 4)
    loss = torch.nn.functional.nll_loss(fused.log(), labels)
    for single in [*predictions, predictions.mean(0)]:
        assert loss <= torch.nn.functional.nll_loss(single.log(), labels)


def test_examples_without_a_label_do_not_count():
    predictions, labels = experts(3, 40, 4)
    part = labels.clone()
    part[10:] = -100
    expected = HeldOutWeights(labels[:10]).weigh(as_rows(predictions[:, :10].reshape(3, -1)))
    assert HeldOutWeights(part).weigh(as_rows(predictions.view(3, -1))).equal(expected)


def test_a_confident_mistake_does_not_veto():
    P = torch.tensor([[0.0, 0.9, 0.9, 0.9], [0.5, 0.5, 0.5, 0.5]], dtype=torch.float64)
    w = mixture_weights(P)
    torch.testing.assert_close(w @ torch.tensor([0.9, 0.5], dtype=torch.float64), (0.5 + 0.4 * w[0]))
    assert 0.3 < float(w[0]) < 0.9
    assert mixture_weights(torch.zeros(2, 3, dtype=torch.float64)).tolist() == [0.5, 0.5]


def test_rows_must_fit_the_labels():
    labels = torch.tensor([0, 2, 1])
    with pytest.raises(
        AggregationError, match=r"rows of 7 numbers \(of site0, site1\).*3 classes for 3 labels"
    ):
        HeldOutWeights(labels)(as_rows(rows(2, 7).softmax(1)))
    with pytest.raises(AggregationError, match="at least 3 classes"):
        HeldOutWeights(labels)(as_rows(rows(2, 6).softmax(1)))
    with pytest.raises(AggregationError, match="softmax"):
        HeldOutWeights(labels)(as_rows(rows(2, 9)))

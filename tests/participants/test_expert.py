"""Experts: models that are trained already, fused over predictions or parameters."""

from __future__ import annotations

import pytest
import torch
from tests.toys import assert_same, fit, seeded, table
from torch import nn

from lianhe.aggregation import Mean, Median, Vote
from lianhe.core.errors import SpecError
from lianhe.core.spec import Spec
from lianhe.participants import Expert

X, Y = table()


def model(seed, width=6, norm=False):
    middle = [nn.BatchNorm1d(width)] if norm else []
    return seeded(lambda: nn.Sequential(nn.Linear(4, width), *middle, nn.Tanh(), nn.Linear(width, 3)), seed)


def experts(over="predictions", **options):
    return [Expert(f"e{i}", model(i, **options), over) for i in range(3)]


def test_predictions_are_fused_by_the_aggregator():
    each = torch.stack([model(i)(X).softmax(1) for i in range(3)])
    for aggregator, expected in (
        (None, each.mean(0)),
        (Mean(), each.mean(0)),
        (Median(), each.median(0).values),
    ):
        result = fit(Spec(experts(), data=X, rounds=1, aggregator=aggregator))
        torch.testing.assert_close(result.model(X), expected)
        torch.testing.assert_close(result.joint.blocks["predictions"]["probabilities"], expected.detach())
    voted = fit(Spec(experts(), data=(X, Y["kind"]), rounds=1, aggregator=Vote(3))).model(X)
    votes = torch.nn.functional.one_hot(each.argmax(2), 3).double().mean(0)
    torch.testing.assert_close(voted, votes)


@pytest.mark.parametrize("norm", [True, False])
def test_parameters_are_fused_statistics_included(norm):
    given = experts("parameters", norm=norm)
    for i, e in enumerate(given):
        if norm:
            e.model[1].running_mean += i
    soup = fit(Spec(given, rounds=1, aggregator=Mean())).model
    for name, tensor in soup.state_dict().items():
        if tensor.is_floating_point():
            expected = torch.stack([e.model.state_dict()[name] for e in given]).mean(0)
            torch.testing.assert_close(tensor, expected)


def test_statistics_are_averaged_even_by_the_median():
    given = experts("parameters", norm=True)
    for shift, e in zip((0.0, 0.0, 3.0), given, strict=True):
        e.model[1].running_mean += shift
    soup = fit(Spec(given, rounds=1, aggregator=Median())).model
    assert soup[1].running_mean.tolist() == [1.0] * 6
    middle = torch.stack([e.model[0].weight for e in given]).median(0).values
    torch.testing.assert_close(soup[0].weight, middle)


@pytest.mark.parametrize("over", ["predictions", "parameters"])
def test_experts_are_copied(over):
    given = experts(over, norm=True)
    before = [{n: t.clone() for n, t in e.model.state_dict().items()} for e in given]
    result = fit(Spec(given, data=X, rounds=1))
    with torch.no_grad():
        for p in result.model.parameters():
            p.zero_()
    for e, state in zip(given, before, strict=True):
        assert_same(dict(e.model.state_dict()), state)
        assert e.model.training
        assert not any(q is p for p in result.model.parameters() for q in e.model.parameters())


def test_experts_are_measured_one_by_one():
    result = fit(Spec(experts(), data=X, rounds=1))
    records = {(r.participant, r.name): r.value for r in result.evaluate((X, Y["kind"]))}
    for i in range(3):
        accuracy = float((model(i)(X).argmax(1) == Y["kind"]).double().mean())
        assert records[f"e{i}", "accuracy"] == pytest.approx(accuracy, abs=1e-6)


def test_inputs_may_be_arrays():
    ours, theirs = (fit(Spec(experts(), data=x, rounds=1)) for x in (X.numpy(), X))
    for name, tensor in ours.joint.blocks["predictions"].items():
        assert torch.equal(tensor, theirs.joint.blocks["predictions"][name])


REFUSED = {
    "over": (lambda: experts("weights"), {}, "over='weights': must be 'predictions' or 'parameters'"),
    "mixed": (
        lambda: [*experts(), Expert("x", model(9), "parameters")],
        {},
        "expert 'x' is over parameters, 'e0' over predictions: choose one",
    ),
    "no data": (experts, {"data": None}, "data is missing: fusing predictions needs the inputs"),
    "shapes": (
        lambda: [*experts("parameters"), Expert("wide", model(3, width=7), "parameters")],
        {},
        "experts 'e0' and 'wide' differ in .*'0.bias'.*fuse over 'predictions' instead",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_fused_is_refused(case):
    make, options, match = REFUSED[case]
    with pytest.raises(SpecError, match=match):
        Spec(make(), **{"data": X, "rounds": 1, **options})

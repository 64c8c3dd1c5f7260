"""Fusion by outputs and by weights, and the table of candidates, on real digits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lianhe as lh


@pytest.fixture(scope="module")
def digits() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    data = lh.datasets.load_mfeat()
    x = data.x["kar"] / 10
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(0))
    cuts = {"a": (0, 300), "b": (300, 600), "held_out": (600, 1000), "test": (1000, 2000)}
    return {k: (x[order[i:j]], data.y["digit"][order[i:j]]) for k, (i, j) in cuts.items()}


@pytest.fixture(scope="module")
def models(digits) -> dict[str, nn.Module]:
    start = lh.nets.MLP(64, [32], outputs=10)
    fitted = {}
    for name in "ab":
        x, y = digits[name]
        spec = lh.Spec([lh.Task("digit", start, data=(x, y))], rounds=150, lr=1e-2)
        fitted[name] = lh.fit(spec).model.head("digit")
    return fitted


def test_the_output_mean_is_the_mean_of_probabilities(models, digits) -> None:
    x = digits["test"][0]
    expected = (models["a"](x).softmax(1) + models["b"](x).softmax(1)) / 2
    torch.testing.assert_close(lh.fuse(models)(x), expected)


def test_the_uniform_soup_is_the_mean_of_weights(models) -> None:
    soup = lh.fuse(models, over="parameters").state_dict()
    for name, tensor in soup.items():
        torch.testing.assert_close(
            tensor, (models["a"].state_dict()[name] + models["b"].state_dict()[name]) / 2
        )


def test_fusing_leaves_the_models_as_they_were(models) -> None:
    before = {n: t.clone() for n, t in models["a"].state_dict().items()}
    lh.fuse(models, over="parameters")
    assert all(torch.equal(t, before[n]) for n, t in models["a"].state_dict().items())


def test_held_out_weights_prefer_the_better_model(models, digits) -> None:
    worse = lh.nets.MLP(64, [32], outputs=10)
    committee = lh.fuse(
        {"good": models["a"], "random": worse},
        aggregator=lh.HeldOutWeights(digits["held_out"][1]),
        data=digits["held_out"],
    )
    weights = dict(zip(committee.names, committee.aggregator.weigh(_rows(committee)).tolist(), strict=True))
    assert weights["good"] > 0.9
    with pytest.raises(lh.SpecError, match="data is missing"):
        lh.fuse(models, aggregator=lh.HeldOutWeights(digits["held_out"][1]))


def _rows(committee: lh.Committee) -> lh.core.stack.Rows:
    return lh.core.stack.Rows(torch.zeros(2, 3), committee.names)


def test_all_candidates_stand_in_one_table(models, digits) -> None:
    fusion = lh.fuse_candidates(models, digits["held_out"])
    names = {c.name for c in fusion.candidates}
    assert names == {"best single", "output mean", "output weighted", "uniform soup", "greedy soup"}
    accuracies = [c.accuracy for c in fusion.candidates]
    assert accuracies == sorted(accuracies, reverse=True)
    assert fusion.rows == 200
    assert fusion.table().row_count == 5
    # The winner is as good on rows that chose nothing, to within what 1,000 rows can tell.
    x, y = digits["test"]
    accuracy = float((fusion.model(x).argmax(1) == y).float().mean())
    assert accuracy > fusion.best.accuracy - 0.05


def test_a_greedy_soup_is_never_worse_where_it_chooses_than_the_best_single(models, digits) -> None:
    independent = {**models, "c": lh.nets.MLP(64, [32], outputs=10)}
    fusion = lh.fuse_candidates(independent, digits["held_out"], fit_on=digits["held_out"])
    by_name = {c.name: c.accuracy for c in fusion.candidates}
    assert by_name["greedy soup"] >= by_name["best single"]


def test_different_architectures_are_refused_by_weights_and_fused_by_outputs(models, digits) -> None:
    other = {**models, "wide": lh.nets.MLP(64, [48], outputs=10)}
    with pytest.raises(lh.SpecError, match="'wide' differ"):
        lh.fuse(other, over="parameters")
    names = {c.name for c in lh.fuse_candidates(other, digits["held_out"]).candidates}
    assert names == {"best single", "output mean", "output weighted"}

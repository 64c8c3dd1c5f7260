"""Watching changes nothing, and what is seen is what autograd gives."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from tests.toys import F64, seeded, site_spec, table, task_spec
from tests.toys import tasks as toy_tasks
from torch import nn

from lianhe.aggregation import FAMO, Confident, Mean, Median, PCGrad, Sum, UPGrad
from lianhe.core.aggregator import Aggregator
from lianhe.core.engine import LoopEngine
from lianhe.core.errors import SpecError
from lianhe.core.spec import Spec
from lianhe.engines import SharedEngine
from lianhe.experiment.evidence import ConflictReport, Watched
from lianhe.experiment.fit import fit
from lianhe.participants import Task

ALL: list[Aggregator | None] = [None, Sum(), Mean(), PCGrad(), UPGrad(), Median(), FAMO()]


def parameters(result):
    return [p.detach().clone() for p in result.model.parameters()]


@pytest.mark.parametrize("aggregator", ALL, ids=repr)
@pytest.mark.parametrize("engine", [LoopEngine, lambda: SharedEngine("sequential")], ids=["loop", "shared"])
def test_watching_changes_nothing_bit_for_bit(aggregator, engine) -> None:
    spec = task_spec(data=table(missing=0.2), rounds=8, aggregator=aggregator)
    watched = spec.replace(aggregator=Watched(aggregator, every=3))
    plain, seen = fit(spec, engine=engine(), seed=3), fit(watched, engine=engine(), seed=3)
    assert all(torch.equal(a, b) for a, b in zip(parameters(plain), parameters(seen), strict=True))
    assert [r.value for r in plain.history] == [r.value for r in seen.history]
    assert {look.round for look in seen.aggregator.looks} == {0, 3, 6}
    assert spec.aggregator is aggregator


def test_looks_are_the_inner_products_that_autograd_gives() -> None:
    x, y = table()
    spec = task_spec(data=(x, y), rounds=1, batch_size=None, aggregator=Watched(every=1))
    (look,) = fit(spec, seed=0).aggregator.looks
    encoder, heads = spec.encoder, {t.name: t.head for t in spec.participants}
    losses = {
        "size": nn.functional.mse_loss(heads["size"](encoder(x)).squeeze(1), y["size"]),
        "kind": nn.functional.cross_entropy(heads["kind"](encoder(x)), y["kind"]),
        "flag": nn.functional.binary_cross_entropy_with_logits(
            heads["flag"](encoder(x)).squeeze(1), y["flag"]
        ),
    }
    assert look.names == tuple(losses)
    assert torch.allclose(look.losses, torch.stack(list(losses.values())).detach())
    for layer, module in (("encoder.0", encoder[0]), ("encoder.2", encoder[2])):
        rows = torch.stack(
            [
                torch.cat(
                    [
                        g.flatten()
                        for g in torch.autograd.grad(v, list(module.parameters()), retain_graph=True)
                    ]
                )
                for v in losses.values()
            ]
        )
        assert torch.allclose(look.gramians[layer], rows @ rows.T, atol=1e-12)
        assert torch.allclose(look.products[layer], rows @ rows.mean(0), atol=1e-12)
    total = sum(look.gramians.values())
    assert torch.allclose(look.gramian, total)
    assert look.update == pytest.approx(float(total.mean()))


def opposed(aggregator: Aggregator | None, rounds: int = 12) -> Spec:
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    data = (x, {"up": x[:, 0], "down": -4 * x[:, 0], "other": x[:, 1]})
    heads = [Task(t, nn.Identity(), "mse") for t in data[1]]
    encoder = seeded(lambda: nn.Linear(3, 1), 0)
    return Spec(
        heads,
        encoder=encoder,
        data=data,
        rounds=rounds,
        batch_size=None,
        lr=0.01,
        optimizer="sgd",
        aggregator=aggregator,
    )


def test_report_names_the_task_that_a_sum_pushes_uphill_and_upgrad_does_not() -> None:
    summed = ConflictReport.of(fit(opposed(Watched(Sum(), every=1))))
    uphill = {t.task: t.uphill for t in summed.tasks}
    assert uphill["up"] > 0.5 > uphill["down"] == 0
    worst = min(summed.pairs, key=lambda pair: pair.cosine)
    assert (worst.a, worst.b) == ("up", "down")
    assert worst.rounds == tuple(range(12))
    assert worst.conflict > 0.5
    mended = ConflictReport.of(fit(opposed(Watched(UPGrad(), every=1))))
    assert all(t.uphill == 0 for t in mended.tasks)


def test_a_resumed_fit_has_seen_the_same(tmp_path: Path) -> None:
    spec = task_spec(rounds=9, aggregator=Watched(PCGrad(), every=2))
    whole = ConflictReport.of(fit(spec, seed=1))
    fit(spec.replace(rounds=5), seed=1, checkpoint=tmp_path, checkpoint_every=5)
    again = fit(spec, seed=1, checkpoint=tmp_path, resume=True)
    assert ConflictReport.of(again).to_dict() == whole.to_dict()


def test_report_is_written(tmp_path: Path) -> None:
    report = ConflictReport.of(fit(task_spec(rounds=6, aggregator=Watched(every=2))))
    html = report.to_html(tmp_path / "c.html").read_text()
    assert "encoder.2" in html
    assert "size / kind" in html or "kind / flag" in html
    read = json.loads(report.to_json(tmp_path / "c.json").read_text())
    assert [pair["cosine"] for pair in read["pairs"]] == [pair.cosine for pair in report.pairs]
    assert report.table().row_count == 3


@pytest.mark.parametrize("engine", [SharedEngine("sequential", accumulate=2), SharedEngine("representation")])
def test_an_engine_that_accumulates_or_approximates_can_be_watched(engine) -> None:
    spec = task_spec(rounds=5, aggregator=UPGrad())
    plain = fit(spec, engine=copy.deepcopy(engine))
    seen = fit(spec.replace(aggregator=Watched(UPGrad(), every=2)), engine=copy.deepcopy(engine))
    assert all(torch.equal(a, b) for a, b in zip(parameters(plain), parameters(seen), strict=True))
    assert len(seen.aggregator.looks) == 3


@pytest.mark.parametrize("across_sites", [None, Mean()])
def test_sites_that_hold_different_tasks_can_be_watched(across_sites) -> None:
    spec = site_spec(aggregator=UPGrad(), across_sites=across_sites)
    plain, seen = fit(spec), fit(spec.replace(aggregator=Watched(UPGrad(), every=1)))
    for block, tensors in plain.joint.blocks.items():
        assert all(torch.equal(t, seen.joint.blocks[block][n]) for n, t in tensors.items())
    report = ConflictReport.of(seen)
    who = {"north", "east", "south"} if across_sites is None else {"size", "kind", "flag"}
    assert {task.task for task in report.tasks} == who
    assert len(report.pairs) == 3
    assert all(pair.rounds == (0, 1, 2, 3) for pair in report.pairs)


def test_plain_matrices_can_be_watched() -> None:
    watched = Watched(Mean(), every=1)
    watched(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]))
    watched(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    report = ConflictReport.of(watched)
    assert report.pairs[0].rounds == (0,)
    assert report.pairs[0].cosine == pytest.approx(-(0.5**0.5))
    watched.reset()
    with pytest.raises(SpecError, match="saw no stack"):
        ConflictReport.of(watched)


def test_what_cannot_be_watched_is_refused() -> None:
    with pytest.raises(SpecError, match="pseudo-labels"):
        Watched(Confident(0.9))
    with pytest.raises(SpecError, match="every"):
        Watched(every=0)
    with pytest.raises(SpecError, match="Watched"):
        ConflictReport.of(fit(task_spec(rounds=1, participants=toy_tasks())))

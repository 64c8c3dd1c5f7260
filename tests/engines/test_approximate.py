"""Approximations: what tasks are compared by, what stays exact, and how far off they say they are."""

from __future__ import annotations

import pytest
import torch
from tests.toys import F64, assert_close, assert_same, fit, net, seeded, table, task_spec, tasks, weights_of
from torch import nn

from lianhe.aggregation import DBMTL, DWA, MGDA, Certified, GradNorm, Median, MoDo, NashMTL, UPGrad
from lianhe.core.contribution import Request
from lianhe.core.engine import LoopEngine
from lianhe.core.errors import SpecError
from lianhe.core.stack import Rows
from lianhe.core.streams import Stream, untouched_global_state
from lianhe.engines import SharedEngine
from lianhe.linalg import flatten
from lianhe.nets import LoRA
from lianhe.participants import Task

METHODS = ["representation", "last_layer"]
NEAR = {"rtol": 1e-12, "atol": 1e-14}


def by_hand(method, spec=None):
    """An approximate stack of a first round, the rows that it should look at, and the exact ones."""
    spec = task_spec(table(missing=0.2), batch_size=None) if spec is None else spec
    problem = spec.problem(0)
    request = Request(Stream(0, 0), problem.joint)
    stack = SharedEngine(method).collect(problem.live, request)
    exact = LoopEngine().collect(spec.problem(0).live, request)
    rows = torch.stack([flatten({"encoder": c.blocks["encoder"]}) for c in exact.contributions])
    if method == "last_layer":
        seen = [{"encoder": _last(c.blocks["encoder"])} for c in exact.contributions]
        return stack, torch.stack([flatten(s) for s in seen]), rows, exact
    z = problem.live[0].trunk.features(problem.live[0].feed, request).detach().requires_grad_()
    seen = [torch.autograd.grad(task.loss(z, request), z)[0].flatten() for task in problem.live]
    return stack, torch.stack(seen), rows, exact


def _last(tensors):
    last = list(tensors)[-1].rpartition(".")[0]
    assert last == "2"
    return {n: t for n, t in tensors.items() if n.startswith("2.")}


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_rows_are_those_that_are_stated_and_what_they_weigh_is_exact(method, fused):
    spec = task_spec(table(missing=0.2), batch_size=None)
    if fused:
        x, y = table(missing=0.2)
        heads = [Task(n, seeded(lambda: nn.Linear(5, 1), i), "mse") for i, n in enumerate("abc")]
        values = {n: y["size"] * k + x[:, i] for i, (n, k) in enumerate(zip("abc", (1, -1, 2), strict=True))}
        spec = task_spec((x, values), participants=heads, batch_size=None)
    with untouched_global_state():
        stack, seen, rows, _ = by_hand(method, spec)
        encoder = stack.groups()[0]
        torch.testing.assert_close(encoder.values, seen, **NEAR)
        torch.testing.assert_close(encoder.gramian(), seen @ seen.T, **NEAR)
        assert not torch.allclose(seen @ seen.T, rows @ rows.T, rtol=0.1)
        for aggregator in (UPGrad(), MGDA(), Certified()):
            weights = aggregator.weigh(Rows(seen))
            torch.testing.assert_close(aggregator.weigh(encoder), weights, rtol=1e-9, atol=1e-10)
            torch.testing.assert_close(flatten(aggregator(encoder)), weights @ rows, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_heads_and_losses_are_exact(method):
    with untouched_global_state():
        stack, _, _, exact = by_hand(method)
        torch.testing.assert_close(stack.losses, exact.losses, **NEAR)
        heads = {group.key: group for group in stack.groups()[1:]}
        assert set(heads) == {f"head.{c.participant}" for c in exact.contributions}
        for c in exact.contributions:
            block = f"head.{c.participant}"
            assert_close(heads[block].average()[block], c.blocks[block])


def test_an_aggregator_that_reads_rows_reads_those_at_the_representation():
    """A coordinate-wise median of cotangents, carried back to the parameters."""
    with untouched_global_state():
        stack, seen, _, _ = by_hand("representation")
        encoder = stack.groups()[0]
        middle = seen.median(0).values
        task = stack.tasks[0]
        z = task.trunk.features(task.feed, Request(Stream(0, 0), None))
        expected = torch.autograd.grad(z, list(stack.parameters.values()), middle.view_as(z))
        torch.testing.assert_close(
            flatten(Median()(encoder)), torch.cat([e.flatten() for e in expected]), **NEAR
        )
        with pytest.raises(SpecError, match='"last_layer" weighs tasks'):
            Median()(by_hand("last_layer")[0].groups()[0])


# ------------------------------------------------------------------------ a case in which it is exact


def orthonormal():
    """A linear encoder of orthonormal inputs: ⟨g_s, g_t⟩ = Σ ⟨x_i, x_j⟩ ⟨d_si, d_tj⟩ = ⟨D_s, D_t⟩."""
    x = torch.linalg.qr(torch.randn(4, 4, dtype=F64, generator=torch.Generator().manual_seed(1)))[0]
    _, y = table(4)
    return task_spec((x, y), encoder=seeded(lambda: nn.Linear(4, 5, bias=False), 1), batch_size=None)


@pytest.mark.parametrize("aggregator", [UPGrad(), MGDA(), NashMTL(), Certified()], ids=repr)
def test_it_is_exact_where_all_inputs_move_the_encoder_alike(aggregator):
    spec = orthonormal().replace(aggregator=aggregator, rounds=6)
    engine = SharedEngine("representation", check_every=1)
    assert_close(weights_of(fit(spec, engine=engine)), weights_of(fit(spec, engine=LoopEngine())), 1e-9)
    assert engine.fidelity.cosines == pytest.approx([1.0] * 6, abs=1e-9)


# ------------------------------------------------------------------------ how far off it is


@pytest.mark.parametrize("method", METHODS)
def test_the_cosine_is_that_of_the_directions(method):
    spec = task_spec(table(missing=0.2), batch_size=None, rounds=1, aggregator=MGDA())
    engine = SharedEngine(method, check_every=1)
    result = fit(spec, engine=engine)
    with untouched_global_state():
        _, seen, rows, _ = by_hand(method)
    a, b = (MGDA().weigh(Rows(matrix)) @ rows for matrix in (seen, rows))
    expected = float(torch.cosine_similarity(a, b, 0))
    assert engine.fidelity.cosines == pytest.approx([expected], abs=1e-9)
    assert expected < 0.9999
    (told,) = result.findings
    assert told.startswith(f"{method} is an approximation: cosine to the exact direction {expected:.3f} on ")
    assert told.endswith(f"of 1 rounds, {expected:.3f} at least")


@pytest.mark.parametrize(("every", "rounds"), [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (100, [0]), (0, [])])
def test_it_is_measured_every_so_many_rounds(every, rounds, monkeypatch):
    engine, judged = SharedEngine("representation", check_every=every), []
    monkeypatch.setattr(engine, "judge", lambda approximate, exact: judged.append(sorted(exact)))
    fit(task_spec(rounds=5, aggregator=UPGrad()), engine=engine)
    assert judged == [["encoder"]] * len(rounds)


def test_nothing_measured_is_said_too():
    engine = SharedEngine("last_layer", check_every=0)
    result = fit(task_spec(rounds=3, aggregator=UPGrad()), engine=engine)
    assert result.findings == ("last_layer: not compared with the exact direction yet",)
    assert SharedEngine("sequential").findings() == ()


STATEFUL = [NashMTL(), GradNorm(), DBMTL(), DWA(1), Certified(), UPGrad(), None]


@pytest.mark.parametrize("aggregator", STATEFUL, ids=repr)
def test_the_comparison_leaves_no_trace(aggregator):
    """An aggregator with a memory is asked by a copy: what the fit does is the same without comparison."""
    spec = task_spec(table(missing=0.2), rounds=6, batch_size=12, aggregator=aggregator)
    runs = [fit(spec, engine=SharedEngine("representation", check_every=k)) for k in (0, 1)]
    assert_same(*(weights_of(run) for run in runs))
    if aggregator is not None:
        told = [run.aggregator.findings() for run in runs]
        assert told[0] == told[1]


# ------------------------------------------------------------------------ where there is nothing to compare


def own_data():
    x, y = table(60)
    return [
        Task(t.name, t.head, t.loss, data=(x[20 * i :][:20], y[t.name][20 * i :][:20]))
        for i, t in enumerate(tasks())
    ]


def test_tasks_with_data_of_their_own_have_no_representation_in_common():
    spec = task_spec(participants=own_data(), data=None, aggregator=UPGrad())
    with pytest.raises(SpecError, match="compares tasks at one representation, but here they read data"):
        fit(spec, engine=SharedEngine("representation"))
    fit(spec, engine=SharedEngine("last_layer"))


def test_neither_have_tasks_whose_encoder_gives_each_its_own():
    sharing = LoRA(net(), [t.name for t in tasks()], rank=2)
    participants = [Task(t.name, sharing.head(t.name, t.head), t.loss) for t in tasks()]
    spec = task_spec(participants=participants, encoder=seeded(sharing.encoder, 1), aggregator=UPGrad())
    with pytest.raises(SpecError, match="or parts of the representation, of their own"):
        fit(spec, engine=SharedEngine("representation"))


def test_independent_estimates_are_not_compared_sample_by_sample():
    spec = task_spec(aggregator=MoDo(), rounds=3)
    with pytest.raises(SpecError, match="no coordinates that hold for several samples"):
        fit(spec, engine=SharedEngine("representation"))
    fit(spec, engine=SharedEngine("last_layer"))


def test_whoever_only_weighs_losses_needs_no_comparison():
    spec = task_spec(rounds=4)
    ours = fit(spec, engine=SharedEngine("representation", check_every=0))
    assert_close(weights_of(ours), weights_of(fit(spec, engine=LoopEngine())))

"""Heads, fused and one by one; tasks that read others; parts of the encoder that are one task's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.toys import F64, assert_close, fit, net, seeded, table, weights_of
from torch import nn

from lianhe.aggregation import Certified, Mean, Median, UPGrad
from lianhe.core.contribution import Request
from lianhe.core.engine import LoopEngine
from lianhe.core.spec import Spec
from lianhe.core.streams import Stream, untouched_global_state
from lianhe.engines import SharedEngine
from lianhe.engines.fused import LinearHeads
from lianhe.engines.heads import PlainHeads
from lianhe.nets import LoRA
from lianhe.participants import Task

MISSING = -100


def linear(outputs, seed, bias=True):
    return seeded(lambda: nn.Linear(5, outputs, bias=bias), seed)


def labels(loss, rows=24, tasks=4, missing=0.3):
    g = torch.Generator().manual_seed(3)
    y = {}
    for t in range(tasks):
        gone = torch.rand(rows, generator=g) < missing
        if loss == "cross_entropy":
            y[f"t{t}"] = torch.randint(3, (rows,), generator=g).masked_fill(gone, MISSING)
        else:
            values = torch.rand(rows, generator=g, dtype=F64)
            values = values.round() if loss == "binary_cross_entropy" else values
            y[f"t{t}"] = values.masked_fill(gone, torch.nan)
    return y


def live(participants, y, **options):
    """Live tasks on a table of four columns, and the request of their first round."""
    x = table(len(next(iter(y.values()))))[0]
    given = {"encoder": net(), "rounds": 1, "lr": 0.1, "optimizer": "sgd", **options}
    problem = Spec(participants, data=(x, y), **given).problem(0)
    return problem.live, Request(Stream(0, 0), problem.joint)


def both(participants, y, **options):
    """The same tasks by both kinds of heads, on one representation."""
    tasks, request = live(participants, y, **options)
    z = tasks[0].trunk.features(tasks[0].feed, request)
    assert LinearHeads.fits(tasks, z, request)
    return LinearHeads(tasks, z, request), PlainHeads(tasks, z, request)


def assert_alike(fused, plain, rtol=1e-12, atol=1e-14):
    near = {"rtol": rtol, "atol": atol}
    torch.testing.assert_close(fused.losses(), plain.losses(), **near)
    (of_fused,), gradients = fused.backward()
    (of_plain,), expected = plain.backward()
    assert of_fused.rows == of_plain.rows
    assert [id(leaf) for leaf in of_fused.leaves] == [id(leaf) for leaf in of_plain.leaves]
    for ours, theirs in zip(of_fused.cotangents, of_plain.cotangents, strict=True):
        torch.testing.assert_close(ours, theirs, **near)
    for ours, theirs in zip(gradients, expected, strict=True):
        assert {b: list(ps) for b, ps in ours.items()} == {b: list(ps) for b, ps in theirs.items()}
        for block, parameters in theirs.items():
            for name, gradient in parameters.items():
                torch.testing.assert_close(ours[block][name], gradient, **near)


KINDS = [("cross_entropy", 3), ("binary_cross_entropy", 1), ("mse", 1)]


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("loss", "outputs"), KINDS)
def test_fused_heads_are_plain_heads(loss, outputs, bias, missing):
    participants = [Task(f"t{t}", linear(outputs, t, bias), loss, weight=1 + t) for t in range(4)]
    with untouched_global_state():
        fused, plain = both(participants, labels(loss, missing=missing))
        assert_alike(fused, plain)
        weights = [0.5, -1.0, 0.0, 2.0]
        ours = torch.autograd.grad(fused.outputs, fused.leaves, fused.spread(weights), retain_graph=True)
        theirs = torch.autograd.grad(plain.outputs, plain.leaves, plain.spread(weights))
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


def test_classes_may_be_two_and_labels_of_classes_may_be_whole_numbers_in_logistic_losses():
    y = {n: (v > 0).long().masked_fill(v.isnan(), MISSING) for n, v in labels("mse").items()}
    with untouched_global_state():
        assert_alike(*both([Task(n, linear(1, i), "binary_cross_entropy") for i, n in enumerate(y)], y))


@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_a_frozen_parameter_of_a_head_has_no_gradient(frozen):
    heads = [linear(3, t) for t in range(4)]
    getattr(heads[1], frozen).requires_grad_(False)
    with untouched_global_state():
        fused, plain = both(
            [Task(f"t{t}", h, "cross_entropy") for t, h in enumerate(heads)], labels("cross_entropy")
        )
        assert_alike(fused, plain)
        _, gradients = fused.backward()
        assert list(gradients[1]["head.t1"]) == [n for n in ("weight", "bias") if n != frozen]


def test_a_frozen_encoder_is_asked_for_nothing():
    with untouched_global_state():
        fused, plain = both(
            [Task(f"t{t}", linear(1, t), "mse") for t in range(4)],
            labels("mse"),
            encoder=net().requires_grad_(False),
        )
        assert_alike(fused, plain)
        assert fused.leaves == []


@pytest.mark.parametrize(("loss", "outputs"), KINDS)
def test_fused_heads_in_half_precision(loss, outputs):
    y = {n: v.float() if v.is_floating_point() else v for n, v in labels(loss).items()}
    participants = [Task(f"t{t}", linear(outputs, t).float(), loss) for t in range(4)]
    x = table(24)[0].float()
    spec = Spec(participants, data=(x, y), encoder=net().float(), rounds=1, autocast=torch.bfloat16)
    with untouched_global_state():
        problem = spec.problem(0)
        request = Request(Stream(0, 0), problem.joint)
        z = problem.live[0].trunk.features(problem.live[0].feed, request)
        assert z.dtype == torch.bfloat16
        fused, plain = (kind(problem.live, z, request) for kind in (LinearHeads, PlainHeads))
        assert fused.losses().dtype == torch.float32
        assert_alike(fused, plain, rtol=2e-2, atol=2e-3)


def fits(participants, y):
    with untouched_global_state():
        tasks, request = live(participants, y)
        z = tasks[0].trunk.features(tasks[0].feed, request)
        return LinearHeads.fits(tasks, z, request)


def changed(change):
    """Two heads that could be fused, had not the second been changed."""
    heads = [linear(3, t) for t in range(2)]
    return [Task(f"t{t}", h, "cross_entropy") for t, h in enumerate([heads[0], change(heads[1])])]


def hooked(register, hook):
    def change(head):
        getattr(head, register)(hook)
        return head

    return change


NOT_FUSED = {
    "forward hook": hooked("register_forward_hook", lambda head, x, out: 2 * out),
    "forward hook before": hooked("register_forward_pre_hook", lambda head, x: (2 * x[0],)),
    "backward hook": hooked("register_full_backward_hook", lambda head, x, out: None),
    "backward hook before": hooked("register_full_backward_pre_hook", lambda head, out: None),
    "weight norm": nn.utils.parametrizations.weight_norm,
    "spectral norm": nn.utils.parametrizations.spectral_norm,
    "a subclass": lambda head: type("Scaled", (nn.Linear,), {})(5, 3).double(),
    "not linear": nn.Sequential,
    "no bias": lambda head: linear(3, 9, bias=False),
    "another width": lambda head: linear(4, 9),
}


@pytest.mark.parametrize("why", NOT_FUSED)
def test_heads_that_are_more_than_a_matrix_product_are_not_fused(why):
    y = {n: v for n, v in labels("cross_entropy").items() if n in ("t0", "t1")}
    assert fits(changed(lambda head: head), y)
    participants = changed(NOT_FUSED[why])
    assert not fits(participants, y)
    spec = Spec(participants, encoder=net(), data=(table(24)[0], y), rounds=3, lr=0.1, aggregator=UPGrad())
    ours, theirs = (weights_of(fit(spec, engine=engine)) for engine in (SharedEngine(), LoopEngine()))
    assert_close(ours, theirs)


def test_what_reads_others_or_has_a_loss_of_its_own_is_not_fused():
    y = {n: v for n, v in labels("mse").items() if n in ("t0", "t1")}
    own = [Task("t0", linear(1, 0), "mse"), Task("t1", linear(1, 1), lambda p, t: (p[:, 0] - t).abs())]
    assert not fits(own, y)
    assert not fits([own[0], Task("t1", linear(1, 1), "binary_cross_entropy")], {**y, "t1": y["t1"].round()})
    assert not fits(own[:1], {"t0": y["t0"]})


def test_numbers_and_classes_as_labels_mark_missing_ones_differently():
    """The one by NaN, the other by -100: together in one tensor, -100 would be a number."""
    y = labels("binary_cross_entropy", tasks=2)
    y["t1"] = torch.where(y["t1"].isnan(), MISSING, y["t1"]).long()
    assert (y["t1"] == MISSING).any()
    participants = [Task(f"t{t}", linear(1, t), "binary_cross_entropy") for t in range(2)]
    spec = Spec(participants, encoder=net(), data=(table(24)[0], y), rounds=3, lr=0.1)
    ours, theirs = (weights_of(fit(spec, engine=engine)) for engine in (SharedEngine(), LoopEngine()))
    assert_close(ours, theirs)


# ------------------------------------------------------------------------ tasks that read others


class Reading(nn.Module):
    """A linear head on the representation and on what other tasks predict."""

    def __init__(self, others, outputs):
        super().__init__()
        self.linear = nn.Linear(5 + others, outputs)

    def forward(self, z, *others):
        return self.linear(torch.cat([z, *(o.tanh() for o in others)], 1))


def chain(detach=(), missing=0.0):
    """a -> b -> c, and c reads a, too."""
    x, y = table(24, missing=missing)
    heads = {
        n: seeded(lambda k=k: Reading(k, 1), i) for i, (n, k) in enumerate({"a": 0, "b": 1, "c": 2}.items())
    }
    reads = {"a": (), "b": ("a",), "c": ("b", "a")}
    participants = [Task(n, heads[n], "mse", reads=reads[n], detach=n in detach) for n in heads]
    values = {"a": y["size"], "b": y["flag"], "c": y["size"] - x[:, 3]}
    return participants, (x, values), heads


def by_hand(encoder, heads, data, detach=()):
    """Losses of the chain, written out."""
    x, y = data
    z = encoder(x)
    over = {n: (lambda t: t.detach()) if n in detach else (lambda t: t) for n in "abc"}
    a = heads["a"](z)
    b = heads["b"](z, over["b"](a))
    c = heads["c"](z, over["c"](b), over["c"](a))
    out = {}
    for n, p in {"a": a, "b": b, "c": c}.items():
        there = ~y[n].isnan()
        out[n] = (p[there, 0] - y[n][there]).square().mean()
    return out


@pytest.mark.parametrize("detach", [(), ("b",), ("c",), ("b", "c")], ids="".join)
@pytest.mark.parametrize("missing", [0.0, 0.5])
@pytest.mark.parametrize("engine", [LoopEngine(), SharedEngine()], ids=lambda e: type(e).__name__)
def test_gradients_of_a_chain_are_those_of_autograd(engine, missing, detach):
    participants, data, _ = chain(detach, missing)
    with untouched_global_state():
        problem = Spec(participants, encoder=net(), data=data, rounds=1).problem(0)
        stack = engine.collect(problem.live, Request(Stream(0, 0), problem.joint))
        model = problem.finish(None)[""]
        losses = by_hand(model.encoder, {n: model.head(n) for n in "abc"}, data, detach)
        torch.testing.assert_close(stack.losses, torch.stack([*losses.values()]), rtol=1e-12, atol=0)
        learns = {"a": "a", "b": "b" if "b" in detach else "ba"}
        learns["c"] = "c" if "c" in detach else "cba"
        if "b" in detach and "c" not in detach:
            learns["c"] = "cba"  # it reads a itself
        found = {}
        for group in stack.groups():
            for i, name in enumerate(group.names):
                row = group.pack(group.values[i])
                found.setdefault(name, {}).update(row)
        for n, loss in losses.items():
            blocks = {"encoder": dict(model.encoder.named_parameters())}
            blocks |= {f"head.{t}": dict(model.head(t).named_parameters()) for t in learns[n]}
            assert set(found[n]) == set(blocks)
            for block, parameters in blocks.items():
                gradients = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
                assert_close(found[n][block], dict(zip(parameters, gradients, strict=True)))


@pytest.mark.parametrize("aggregator", [None, Mean(), UPGrad(), Median(), Certified()], ids=repr)
@pytest.mark.parametrize("detach", [(), ("c",), ("b", "c")], ids="".join)
def test_tasks_that_read_others_train_alike_by_both_engines(detach, aggregator):
    participants, data, _ = chain(detach, missing=0.6)
    spec = Spec(
        participants, encoder=net(), data=data, rounds=6, batch_size=4, optimizer="sgd", aggregator=aggregator
    )
    ours, theirs = (weights_of(fit(spec, engine=engine)) for engine in (SharedEngine(), LoopEngine()))
    assert_close(ours, theirs)


def test_what_all_tasks_learn_is_reconciled_block_by_block():
    """Two tasks that both learn the encoder and one head: these are two blocks, for either engine."""
    participants, (x, y), _ = chain()
    spec = Spec(
        participants[:2],
        encoder=net(),
        data=(x, {n: y[n] for n in "ab"}),
        rounds=4,
        optimizer="sgd",
        aggregator=UPGrad(),
    )
    ours, theirs = (weights_of(fit(spec, engine=engine)) for engine in (SharedEngine(), LoopEngine()))
    assert_close(ours, theirs)


# ------------------------------------------------------------------------ one task's own part of the encoder


def adapted(freeze=False, missing=0.3, **options):
    x, y = table(24, missing=missing)
    sharing = LoRA(net(), list(y), rank=2, freeze=freeze)
    outputs = {"size": 1, "kind": 3, "flag": 1}
    losses = {"size": "mse", "kind": "cross_entropy", "flag": "binary_cross_entropy"}
    participants = [
        Task(n, sharing.head(n, linear(k, i)), losses[n], **options.get(n, {}))
        for i, (n, k) in enumerate(outputs.items())
    ]
    encoder = seeded(sharing.encoder, 4)
    for of_task in encoder.changes:
        for change in of_task:
            nn.init.normal_(change.B, std=0.3)
    return Spec(participants, encoder=encoder, data=(x, y), rounds=5, batch_size=6, optimizer="sgd")


@pytest.mark.parametrize("aggregator", [None, Mean(), UPGrad(), Median(), Certified()], ids=repr)
@pytest.mark.parametrize("freeze", [False, True])
def test_adapters_train_alike_by_both_engines(freeze, aggregator):
    spec = adapted(freeze).replace(aggregator=aggregator)
    ours, theirs = (weights_of(fit(spec, engine=engine)) for engine in (SharedEngine(), LoopEngine()))
    assert_close(ours, theirs)


def test_an_adapter_is_held_by_its_task_and_has_the_gradient_of_its_loss():
    with untouched_global_state():
        problem = adapted(missing=0.0).replace(batch_size=None).problem(0)
        stack = SharedEngine().collect(problem.live, Request(Stream(0, 0), problem.joint))
        model, batch = problem.finish(None)[""], problem.live[0].feed.batch(0)
        held = {group.key: group for group in stack.groups() if group.key.startswith("adapter.")}
        assert {key: group.names for key, group in held.items()} == {
            f"adapter.{n}": (n,) for n in ("size", "kind", "flag")
        }
        loss = F.cross_entropy(model.head("kind")(model.encoder(batch.x)), batch.y["kind"])
        own = model.encoder.private()["kind"]
        expected = torch.autograd.grad(loss, list(own.values()))
        assert_close(held["adapter.kind"].average()["adapter.kind"], dict(zip(own, expected, strict=True)))
        others = model.encoder.private()["flag"]
        loss = F.cross_entropy(model.head("kind")(model.encoder(batch.x)), batch.y["kind"])
        assert not any(
            g.any() for g in torch.autograd.grad(loss, list(others.values()), materialize_grads=True)
        )


def test_whoever_reads_a_task_learns_its_adapter_too():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 1)

        def forward(self, z, size):
            return self.linear(torch.cat([z["flag"], size], 1))

    spec = adapted()
    flag = Task("flag", seeded(Both, 8), "binary_cross_entropy", reads=["size"])
    spec = spec.replace(participants=[*spec.participants[:2], flag])
    with untouched_global_state():
        problem = spec.problem(0)
        stack = SharedEngine().collect(problem.live, Request(Stream(0, 0), problem.joint))
        held = {group.key: group.names for group in stack.groups()}
    assert held["adapter.size"] == ("size", "flag")
    assert held["head.size"] == ("size", "flag")
    assert held["adapter.flag"] == ("flag",)
    for aggregator in (UPGrad(), Median()):
        runs = [fit(spec.replace(aggregator=aggregator), engine=e) for e in (SharedEngine(), LoopEngine())]
        assert_close(*(weights_of(run) for run in runs))


def test_a_task_asks_only_for_the_tensors_that_it_reads():
    """Where the encoder gives every task a representation of its own."""
    spec = adapted(missing=0.0)
    with untouched_global_state():
        problem = spec.problem(0)
        encoder = problem.finish(None)[""].encoder
        request = Request(Stream(0, 0), problem.joint)
        z = encoder(problem.live[0].feed.batch(0).x)
        heads = PlainHeads(problem.live, z, request)
        asked, _ = heads.backward()
    assert [(part.rows, [id(leaf) for leaf in part.leaves]) for part in asked] == [
        ([i], [id(z[t.name])]) for i, t in enumerate(problem.live)
    ]
    assert [tuple(part.cotangents[0].shape) for part in asked] == [(1, 6, 5)] * 3


def test_rows_of_a_task_do_not_touch_the_others_paths():
    """Else T tasks with an adapter each would take T passes through T adapters."""
    ran = []
    spec = adapted(missing=0.0).replace(aggregator=UPGrad(), rounds=1)
    with untouched_global_state():
        problem = spec.problem(0)
        stack = SharedEngine("sequential").collect(problem.live, Request(Stream(0, 0), problem.joint))
        for task, leaf in zip(stack.tasks, stack._heads[0].leaves, strict=True):
            leaf.grad_fn.register_hook(lambda *_, name=task.name: ran.append(name))
        stack.jacobian.rows()
    assert sorted(ran) == ["flag", "kind", "size"]  # once each, and not three times each

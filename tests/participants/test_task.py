"""Multi-task learning against loops that are written by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.toys import (
    CPU,
    F64,
    LOSS,
    MISSING,
    Flat,
    assert_close,
    assert_same,
    fit,
    head,
    net,
    table,
    task_spec,
    tasks,
    weights_of,
)
from torch import nn

from lianhe.aggregation import Fixed, Mean, Sum, UPGrad
from lianhe.core.engine import LoopEngine
from lianhe.core.errors import DataError, NonFiniteError, SpecError
from lianhe.core.schedule import Alternating
from lianhe.engines import SharedEngine
from lianhe.participants import Task
from lianhe.participants.data import Feed, as_source, observed
from lianhe.participants.model import HardSharing

OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "momentum": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9),
}


def loss_by_hand(name, prediction, target):
    there = observed(target)
    prediction, target = prediction[there], target[there]
    if LOSS[name] == "cross_entropy":
        return -prediction.log_softmax(1)[torch.arange(len(target)), target].mean()
    prediction = prediction.squeeze(1)
    if LOSS[name] == "mse":
        return ((prediction - target) ** 2).mean()
    return (F.softplus(prediction) - target * prediction).mean()


def train_by_hand(data, combine, optimizer, rounds, batch_size, lr, seed=0, names=LOSS):
    """Plain autograd on one number, over the batches that Feed gives."""
    model = HardSharing(net(), {t.name: t.head for t in tasks(names)})
    optimizer = OPTIMIZERS[optimizer](model.parameters(), lr=lr)
    feed = Feed(as_source(data, batch_size, CPU, "the test"), seed, "")
    for round_ in range(rounds):
        batch = feed.batch(round_)
        predictions = model(batch.x)
        losses = {n: loss_by_hand(n, predictions[n], batch.y[n]) for n in names if batch.labelled[n]}
        optimizer.zero_grad(set_to_none=True)
        combine(losses).backward()
        optimizer.step()
    return dict(model.state_dict())


def mean(losses):
    return sum(losses.values()) / len(losses)


@pytest.mark.parametrize("engine", [LoopEngine(), SharedEngine()], ids=["loop", "shared"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_the_uniform_mean_is_autograd_on_the_mean_loss(engine, optimizer, missing):
    data = table(missing=missing)
    chosen = optimizer if optimizer != "momentum" else OPTIMIZERS[optimizer]
    spec = task_spec(data, rounds=30, optimizer=chosen)
    by_hand = train_by_hand(data, mean, optimizer, 30, 16, 0.05)
    for aggregator in (None, Mean(), Flat()):
        result = fit(spec.replace(aggregator=aggregator), engine=engine)
        assert_close(weights_of(result), by_hand)


@pytest.mark.parametrize("engine", [LoopEngine(), SharedEngine()], ids=["loop", "shared"])
def test_the_sum_is_autograd_on_the_sum(engine):
    data = table(missing=0.3)
    by_hand = train_by_hand(data, lambda losses: sum(losses.values()), "sgd", 20, 16, 0.02)
    assert_close(
        weights_of(fit(task_spec(data, rounds=20, lr=0.02, aggregator=Sum()), engine=engine)), by_hand
    )


@pytest.mark.parametrize("engine", [LoopEngine(), SharedEngine()], ids=["loop", "shared"])
@pytest.mark.parametrize("aggregator", [None, Mean()], ids=["none", "mean"])
def test_weights_of_tasks_weigh_the_mean_over_the_tasks_that_have_labels(engine, aggregator):
    data = table(missing=0.9)  # so that whole batches are without labels of some task
    importance = {"size": 0.5, "kind": 2.0, "flag": 1.0}

    def combine(losses):
        return sum(importance[n] * loss for n, loss in losses.items()) / sum(importance[n] for n in losses)

    weighted = [Task(t.name, t.head, t.loss, weight=importance[t.name]) for t in tasks()]
    spec = task_spec(data, participants=weighted, rounds=20, batch_size=8, aggregator=aggregator)
    assert_close(weights_of(fit(spec, engine=engine)), train_by_hand(data, combine, "sgd", 20, 8, 0.05))


def test_fixed_weights_are_those_of_the_losses():
    fixed = {"size": 0.1, "kind": 3.0, "flag": 0.7}
    by_hand = train_by_hand(
        table(), lambda ls: sum(fixed[n] * v for n, v in ls.items()), "adam", 15, 16, 0.01
    )
    spec = task_spec(rounds=15, optimizer="adam", lr=0.01, aggregator=Fixed(fixed))
    assert_close(weights_of(fit(spec)), by_hand)


def test_another_seed_shuffles_otherwise_and_only_that():
    a, b = (weights_of(fit(task_spec(), seed=seed)) for seed in (0, 1))
    assert_close(b, train_by_hand(table(), mean, "sgd", 12, 16, 0.05, seed=1))
    assert any(not torch.equal(t, b[n]) for n, t in a.items())
    full = [weights_of(fit(task_spec(batch_size=None), seed=seed)) for seed in (0, 1)]
    assert_same(*full)  # one full batch: nothing is left to draw


# ---------------------------------------------------------------------- labels that are missing (equality 6)


def without(data, task, rows=slice(None)):
    x, y = data
    labels = y[task].clone()
    labels[rows] = torch.nan if labels.is_floating_point() else MISSING
    return x, {**y, task: labels}


def rows_of(spec, round_=0):
    """What each task contributes to one round."""
    from lianhe.core.contribution import Request
    from lianhe.core.streams import Stream, untouched_global_state

    with untouched_global_state():
        problem = spec.problem(0)
        request = Request(Stream(0, round_), problem.joint)
        found = [c for live in problem.live for c in live.contribute(request)]
    return {c.participant: c for c in found}


@pytest.mark.parametrize("rows", [slice(None), slice(0, 40, 3)], ids=["all", "some"])
def test_labels_missing_for_one_task_change_nothing_in_what_another_contributes(rows):
    data = table(missing=0.2)
    spec = task_spec(data, encoder=net(dropout=0.3))
    cut = task_spec(without(data, "size", rows), encoder=net(dropout=0.3))
    for round_ in range(4):
        whole, less = rows_of(spec, round_), rows_of(cut, round_)
        for name in ("kind", "flag"):
            assert torch.equal(whole[name].loss, less[name].loss)
            for block in ("encoder", f"head.{name}"):
                assert_same(whole[name].blocks[block], less[name].blocks[block])


@pytest.mark.parametrize("aggregator", [None, Sum(), UPGrad()], ids=repr)
def test_a_task_without_any_label_is_as_good_as_absent(aggregator):
    data = without(table(missing=0.2), "size")
    options = {"rounds": 15, "optimizer": "adam", "encoder": net(dropout=0.2), "aggregator": aggregator}
    there = weights_of(fit(task_spec(data, participants=tasks(dropout=0.2), **options)))
    others = tasks(("kind", "flag"), dropout=0.2)
    absent = weights_of(fit(task_spec(data, participants=others, **options)))
    start = tasks(("size",))[0].head[0]
    assert torch.equal(there["heads.0.1.weight"], start.weight)
    for ours, theirs in (("heads.1", "heads.0"), ("heads.2", "heads.1"), ("encoder", "encoder")):
        names = [n for n in there if n.startswith(ours + ".")]
        assert names
        for name in names:
            assert torch.equal(there[name], absent[theirs + name.removeprefix(ours)])


@pytest.mark.parametrize("aggregator", [None, UPGrad()], ids=repr)
def test_the_order_of_tasks_does_not_matter(aggregator):
    options = {"encoder": net(dropout=0.3), "optimizer": "adam", "aggregator": aggregator}
    forward = fit(task_spec(participants=tasks(dropout=0.2), **options))
    backward = fit(task_spec(participants=tasks(dropout=0.2)[::-1], **options))
    for i, name in enumerate(LOSS):
        ours, theirs = (m.head(name).state_dict() for m in (forward.model, backward.model))
        assert_close(dict(ours), dict(theirs), 1e-10)
        assert list(backward.model.tasks)[2 - i] == name
    assert_close(dict(forward.model.encoder.state_dict()), dict(backward.model.encoder.state_dict()), 1e-10)


def test_with_a_sum_the_encoder_moves_by_what_is_left():
    data = table()
    both, one, other = (
        rows_of(task_spec(d, names=("size", "flag"), batch_size=None))
        for d in (data, without(data, "size"), without(data, "flag"))
    )
    assert set(one) == {"flag"}
    assert set(other) == {"size"}
    assert_same(both["flag"].blocks["encoder"], one["flag"].blocks["encoder"])
    lr = 0.1
    spec = task_spec(batch_size=None, names=("size", "flag"), rounds=1, lr=lr, aggregator=Sum())
    moved = {
        d: weights_of(fit(spec.replace(data=source)))
        for d, source in (("one", without(data, "size")), ("both", data))
    }
    start = dict(net().state_dict())
    for name, gradient in one["flag"].blocks["encoder"].items():
        alone = moved["one"][f"encoder.{name}"]
        torch.testing.assert_close(alone, start[name] - lr * gradient, rtol=0, atol=1e-15)
        more = lr * other["size"].blocks["encoder"][name]
        torch.testing.assert_close(moved["both"][f"encoder.{name}"], alone - more, rtol=0, atol=1e-14)


@pytest.mark.parametrize("engine", [LoopEngine(), SharedEngine()], ids=["loop", "shared"])
def test_a_task_without_a_label_in_the_batch_keeps_head_and_optimizer_state(engine):
    x, y = table(rows=32)
    feed = Feed(as_source((x, y), 8, CPU, "the test"), 0, "")
    seen = feed.batch(0)
    first = torch.tensor([bool((x[i] == seen.x).all(1).any()) for i in range(len(x))])
    y["flag"][~first] = torch.nan  # labels of "flag" in the first batch only
    spec = task_spec((x, y), rounds=4, batch_size=8, optimizer="adam")
    once, later = fit(spec.replace(rounds=1), engine=engine), fit(spec, engine=engine)
    for name in weights_of(once):
        same = torch.equal(weights_of(once)[name], weights_of(later)[name])
        assert same == name.startswith("heads.2"), name


def test_rounds_in_which_nobody_has_a_label_pass_without_a_step():
    x, y = table(rows=8)
    y = {"flag": torch.full_like(y["flag"], torch.nan)}
    y["flag"][0] = 1.0
    result = fit(task_spec((x, y), names=("flag",), rounds=8, batch_size=1))
    assert [r.round for r in result.history if r.name == "loss"] == [r.round for r in result.history]
    assert len(result.history) == 1
    assert result.rounds == 8


# ---------------------------------------------------------------------- data, epochs, schedules


def test_epochs_are_passes_over_the_largest_data_set():
    x, y = table(rows=21)
    small = (x[:10], y["size"][:10])
    participants = [
        Task("size", head(1), "mse", data=small),
        Task("flag", head(1), "binary_cross_entropy", data=(x, y["flag"])),
    ]
    result = fit(task_spec(participants=participants, data=None, rounds=None, epochs=3, batch_size=5))
    assert result.rounds == 3 * 5


def test_every_row_is_seen_once_an_epoch():
    rows = 23
    x = torch.arange(rows, dtype=F64)[:, None]
    seen = torch.zeros(rows, dtype=torch.int64)

    class Count(nn.Module):
        def forward(self, x):
            if self.training:
                seen.index_add_(0, x[:, 0].long(), torch.ones(len(x), dtype=torch.int64))
            return x / rows

    flag = Task("flag", head(1, inputs=1), "binary_cross_entropy")
    spec = task_spec(
        (x, {"flag": (x[:, 0] > 9).double()}),
        participants=[flag],
        encoder=Count(),
        rounds=None,
        epochs=4,
        batch_size=6,
    )
    assert fit(spec).rounds == 4 * 4
    assert seen.tolist() == [4] * rows


def test_one_data_set_object_may_serve_two_tasks_under_their_own_names():
    x, y = table()
    data = (x, y["size"])
    twice = [Task("a", head(1), "mse", data=data), Task("b", head(1, seed=3), "mse", data=data)]
    result = fit(task_spec(participants=twice, data=None, rounds=3))
    assert {r.participant for r in result.history} == {"a", "b"}


def test_a_validation_of_a_task_goes_before_the_common_one():
    x, y = table()
    own = [Task("size", head(1), "mse", validation=(x[:3], y["size"][:3])), *tasks(("flag",))]
    result = fit(task_spec((x, y), participants=own, validation=(x[:9], {"flag": y["flag"][:9]})))
    counted = {(r.participant, r.weight) for r in result.history if r.split == "validation"}
    assert counted == {("size", 3), ("flag", 9)}


def test_alternating_trains_one_task_a_round():
    spec = task_spec(rounds=3, schedule=Alternating())
    result = fit(spec)
    assert [(r.round, r.participant) for r in result.history] == [(0, "size"), (1, "kind"), (2, "flag")]
    alone = fit(spec.replace(rounds=1))
    changed = [n for n, t in weights_of(alone).items() if n.startswith("heads") and "0.bias" in n]
    start = {n: t for task in tasks() for n, t in task.head.state_dict().items()}
    assert changed
    assert start  # the heads of the tasks whose turn it is not yet are where they were
    for i, task in enumerate(tasks()):
        same = torch.equal(weights_of(alone)[f"heads.{i}.0.weight"], task.head[0].weight)
        assert same == (i > 0)


def test_statistics_of_normalisation_count_a_batch_once():
    for engine in (LoopEngine(), SharedEngine()):
        result = fit(task_spec(encoder=net(norm=True), rounds=5), engine=engine)
        assert int(result.model.encoder[1].num_batches_tracked) == 5


def test_models_come_back_in_evaluation_mode_and_start_in_training_mode():
    frozen_in_eval = net(dropout=0.5).eval()
    trained = fit(task_spec(encoder=frozen_in_eval, rounds=6))
    usual = fit(task_spec(encoder=net(dropout=0.5), rounds=6))
    assert_same(weights_of(trained), weights_of(usual))
    assert not any(m.training for m in trained.model.modules())
    assert not frozen_in_eval.training


def test_measuring_on_the_way_changes_no_number():
    x, y = table()
    quiet = task_spec((x, y), encoder=net(dropout=0.4, norm=True), rounds=9)
    measured = quiet.replace(validation=(x[:11], {n: v[:11] for n, v in y.items()}), evaluate_every=2)
    assert_same(weights_of(fit(quiet)), weights_of(fit(measured)))
    rounds = sorted({r.round for r in fit(measured).history if r.split == "validation"})
    assert rounds == [1, 3, 5, 7, 8]


# ---------------------------------------------------------------------- what is refused


class Exploding(nn.Module):
    """A head whose prediction is not finite from the `after`-th forward pass in training on."""

    def __init__(self, after, value=float("nan")):
        super().__init__()
        self.linear, self.calls, self.after, self.value = nn.Linear(5, 1).double(), 0, after, value

    def forward(self, z):
        self.calls += self.training
        return self.linear(z) * (self.value if self.calls > self.after else 1.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_fit_and_names_task_and_round(value):
    two = [*tasks(("size",)), Task("bad", Exploding(3, value), "mse")]
    x, y = table()
    spec = task_spec((x, {"size": y["size"], "bad": y["size"]}), participants=two)
    with pytest.raises(NonFiniteError, match=r"participant 'bad' is (nan|inf) in round 3; .*Lower lr"):
        fit(spec)


def test_a_step_to_infinity_is_found_although_the_loss_before_it_was_finite():
    with pytest.raises(NonFiniteError, match="block 'encoder' holds NaN or infinite values after round 0"):
        fit(task_spec(rounds=1, lr=1e308, optimizer=lambda p, lr: torch.optim.SGD(p, lr=1e308 * 10)))


CASES = {
    "no data": (lambda: task_spec(participants=tasks(), data=()), DataError, "a tuple of 0: expected"),
    "held by nobody": (
        lambda: task_spec((table()[0], {"size": table()[1]["size"]})),
        DataError,
        "task 'kind' is held by nobody: the data have labels of \\['size'\\]",
    ),
    "class out of range": (
        lambda: task_spec((table()[0], {**table()[1], "kind": table()[1]["kind"] + 1})),
        DataError,
        "label 3 of task 'kind' in the specification is out of range: head and loss allow 0 .. 2",
    ),
    "bit out of range": (
        lambda: task_spec((table()[0], {**table()[1], "flag": table()[1]["flag"] * 2})),
        DataError,
        r"label 2\.0 of task 'flag' .* allow 0 .. 1",
    ),
    "negative class": (
        lambda: task_spec((table()[0], {**table()[1], "kind": table()[1]["kind"] - 1})),
        DataError,
        "label -1 of task 'kind'",
    ),
    "head and encoder": (
        lambda: task_spec(participants=[*tasks(("size",)), *tasks(("flag",), inputs=7)]),
        SpecError,
        r"the head of task 'flag' refuses its input of shape \(2, 5\)",
    ),
    "encoder and data": (
        lambda: task_spec((table()[0][:, :3], table()[1])),
        SpecError,
        r"the encoder refuses its input of shape \(2, 3\)",
    ),
    "outputs of the head": (
        lambda: task_spec(participants=[Task("size", head(2), "mse")]),
        DataError,
        r"head gives \(2, 2\) but labels have shape \(2,\); mse needs one prediction a label",
    ),
    "classes for mse": (
        lambda: task_spec(participants=[Task("kind", head(1), "mse")]),
        DataError,
        "labels are torch.int64; mse needs floating point numbers",
    ),
    "numbers for cross entropy": (
        lambda: task_spec(participants=[Task("size", head(3), "cross_entropy")]),
        DataError,
        "cross_entropy needs .* whole numbers",
    ),
    "scalar loss": (
        lambda: task_spec(participants=[Task("size", head(1), lambda p, y: (p[:, 0] - y).square().mean())]),
        SpecError,
        r"loss of task 'size' gave shape \(\) for 2 samples: .*reduction='none'",
    ),
    "loss that gives no tensor": (
        lambda: task_spec(participants=[Task("size", head(1), lambda p, y: 0.5)]),
        SpecError,
        "gave a float for 2 samples",
    ),
    "loss that fails": (
        lambda: task_spec(participants=[Task("size", head(1), lambda p, y: p @ y)]),
        SpecError,
        r"loss of task 'size' refuses predictions \(2, 1\) and labels \(2,\)",
    ),
    "frozen": (
        lambda: task_spec(
            encoder=net().requires_grad_(False), participants=[Task("size", nn.Flatten(), "mse")]
        ),
        SpecError,
        "task 'size' has nothing to train",
    ),
    "encoder makes no module": (
        lambda: task_spec(encoder=lambda: 3),
        SpecError,
        "gave a int: expected a function",
    ),
    "labels of the validation": (
        lambda: task_spec(validation=(table()[0], {"kind": table()[1]["kind"] + 5})),
        DataError,
        "of task 'kind' in the specification's validation is out of range",
    ),
    "validation without the task": (
        lambda: task_spec(
            participants=[Task("size", head(1), "mse", validation=(table()[0], {"kind": table()[1]["kind"]}))]
        ),
        DataError,
        "task 'size' is held by nobody",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_data_that_do_not_fit_are_refused_before_anything_is_trained(case):
    make, error, match = CASES[case]
    seen = []
    with pytest.raises(error, match=match):
        fit(make(), observer=lambda *args: seen.append(args))
    assert not seen


def test_evaluate_refuses_labels_out_of_range():
    result = fit(task_spec(rounds=1))
    x, y = table()
    with pytest.raises(DataError, match=r"in evaluate\(data\) is out of range"):
        result.evaluate((x, {"kind": y["kind"] + 2}))
    with pytest.raises(DataError, match="expected"):
        result.evaluate(x)

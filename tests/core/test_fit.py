"""The loop: interrupted and resumed, deterministic, and leaving no trace."""

from __future__ import annotations

import copy
import inspect
import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.toys import (
    CPU,
    F64,
    Interrupted,
    all_weights,
    assert_same,
    at_round,
    fit,
    head,
    interrupted,
    net,
    resumed,
    seeded,
    site_spec,
    split,
    table,
    task_spec,
    tasks,
    weights_of,
)
from torch import nn

from lianhe.aggregation import Confident, Mean, RandomWeights, UPGrad
from lianhe.core.aggregator import Weighting
from lianhe.core.checkpoint import MANIFEST, load_checkpoint
from lianhe.core.engine import Engine, LoopEngine
from lianhe.core.errors import CheckpointError, NonFiniteError, SpecError
from lianhe.core.ledger import Ledger
from lianhe.core.schedule import Alternating, Sampled
from lianhe.core.spec import Spec
from lianhe.core.stack import Rows
from lianhe.core.step import Step
from lianhe.participants import FedProx, Local, Task, View


class Restless(Weighting):
    """An aggregator with state: it remembers every loss it has seen, by name."""

    needs = "losses"

    def __init__(self):
        self.seen = {}

    def __repr__(self):
        return "Restless()"

    def weigh(self, stack):
        for name, loss in zip(stack.names, stack.losses, strict=True):
            self.seen[name] = self.seen.get(name, torch.zeros((), dtype=F64)) + loss.cpu().double()
        return torch.stack([1 / (1 + self.seen[name]) for name in stack.names])

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = dict(state["seen"])


class Momentum(Step):
    """A step with state of its own."""

    def __init__(self):
        self.velocity = {}

    def apply(self, joint, update):
        with torch.no_grad():
            for block, tensors in update.items():
                for name, delta in tensors.items():
                    key = f"{block}:{name}"
                    self.velocity[key] = 0.5 * self.velocity.get(key, torch.zeros_like(delta)) + delta
                    joint.blocks[block][name].add_(self.velocity[key])
        return joint

    def state_dict(self):
        return {"velocity": self.velocity}

    def load_state_dict(self, state):
        self.velocity = dict(state["velocity"])


def views_spec(refit=True, **options):
    x, y = table(60)
    g = torch.Generator().manual_seed(5)
    views = []
    for name, columns in (("left", slice(0, 2)), ("right", slice(2, 4))):
        model = seeded(lambda: nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6, 3)), 4)
        noise = 0.1 * torch.randn(60, 2, generator=g, dtype=F64)
        seen = x[:, columns] + noise
        views.append(View(name, model, (seen[:12], y["kind"][:12]), seen[12:], refit=refit))
    given = {
        "aggregator": Confident(per_class=2, pool_size=20),
        "schedule": Alternating(),
        "local": Local(epochs=3, batch_size=8, lr=0.1),
        "rounds": 6,
        **options,
    }
    return Spec(views, **given)


def warm_up(optimizer):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 5))


def warm_up_and_decay(optimizer):
    schedulers = torch.optim.lr_scheduler
    return schedulers.SequentialLR(
        optimizer,
        [schedulers.LinearLR(optimizer, 0.1, total_iters=3), schedulers.CosineAnnealingLR(optimizer, 9)],
        milestones=[3],
    )


def one_cycle(optimizer):
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20)


class Warmed:
    """A callable object: schedulers put its attributes into their state."""

    def __init__(self):
        self.calls = 0

    def __call__(self, step):
        self.calls += 1
        return 1 / (1 + self.calls)


class Noisy(torch.utils.data.Dataset):
    """A data set that augments when it is read, from torch's global stream, as torchvision does."""

    def __init__(self, data):
        self.x, self.y = data

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i] + 0.1 * torch.randn(4, dtype=F64), {n: v[i] for n, v in self.y.items()}


def with_generator():
    return torch.utils.data.DataLoader(Noisy(table()), 16, shuffle=True, generator=torch.Generator())


TASKS = {
    "encoder": net(dropout=0.3, norm=True),
    "participants": tasks(dropout=0.2),
    "data": table(missing=0.3),
    "rounds": 10,
    "optimizer": "adam",
    "lr": 0.01,
}
SITES = {
    "encoder": net(dropout=0.3),
    "personal": ("head.size",),
    "schedule": Sampled(2),
    "rounds": 8,
    "local": Local(epochs=2, batch_size=5, lr=0.01, momentum=0.9),
}
RUNS = {
    "tasks": lambda: task_spec(**TASKS),
    "tasks, random weights": lambda: task_spec(**TASKS, aggregator=RandomWeights()),
    "tasks, one after the other": lambda: task_spec(**TASKS, schedule=Alternating(), aggregator=UPGrad()),
    "tasks, warm-up": lambda: task_spec(**TASKS, lr_schedule=warm_up),
    "tasks, warm-up by an object": lambda: task_spec(
        **TASKS, lr_schedule=lambda o: torch.optim.lr_scheduler.LambdaLR(o, Warmed())
    ),
    "tasks, warm-up and decay": lambda: task_spec(**TASKS, lr_schedule=warm_up_and_decay),
    "tasks, one cycle": lambda: task_spec(**TASKS, lr_schedule=one_cycle),
    "tasks, aggregator with state": lambda: task_spec(**TASKS, aggregator=Restless()),
    "tasks, a data set that augments": lambda: task_spec(**{**TASKS, "data": Noisy(table(missing=0.3))}),
    "tasks, a loader": lambda: task_spec(
        **{**TASKS, "data": torch.utils.data.DataLoader(Noisy(table(41)), 16, shuffle=True, drop_last=True)}
    ),
    "tasks, a loader with a generator": lambda: task_spec(**{**TASKS, "data": with_generator()}),
    "sites": lambda: site_spec(**SITES),
    "sites, everything personal": lambda: site_spec(
        **{**SITES, "personal": ("encoder", "head.size", "head.kind", "head.flag")}
    ),
    "sites, a step with state": lambda: site_spec(**SITES, step=Momentum()),
    "sites, by task": lambda: site_spec(**SITES, across_sites=Mean(), aggregator=RandomWeights()),
    "sites, gradients": lambda: site_spec(
        local=None, across_sites=Mean(), aggregator=UPGrad(), optimizer="adam"
    ),
    "sites, proximal": lambda: site_spec(
        local=FedProx(0.1, Local(epochs=1, batch_size=4)), schedule=Sampled(1)
    ),
    "sites, data sets that augment": lambda: site_spec(
        {name: Noisy(part) for name, part in split(table(missing=0.2)).items()}, schedule=Sampled(2)
    ),
    "views": views_spec,
    "views that go on": lambda: views_spec(refit=False),
}


@pytest.mark.parametrize("run", RUNS)
def test_interrupted_and_resumed_is_never_interrupted_bit_for_bit(run, tmp_path):
    whole = fit(RUNS[run]())
    assert whole.rounds >= 4
    everywhere = run in ("tasks", "sites", "views")
    for after in range(1, whole.rounds) if everywhere else {1, whole.rounds // 2, whole.rounds - 1}:
        parts = resumed(RUNS[run](), after, tmp_path / str(after))
        assert_same(all_weights(parts), all_weights(whole))
        assert parts.rounds == whole.rounds
        later = [r for r in whole.history if r.round >= parts.history[0].round]
        assert list(parts.history) == later


@pytest.mark.parametrize("run", RUNS)
def test_a_fit_depends_on_specification_and_seed_alone(run):
    first = fit(RUNS[run](), seed=3)
    torch.manual_seed(99)
    torch.rand(5)
    again = fit(RUNS[run](), seed=3)
    assert_same(all_weights(again), all_weights(first))
    assert again.history == first.history
    if run != "sites, gradients":  # where nothing is drawn
        assert fit(RUNS[run](), seed=4).history != first.history


def test_one_specification_may_be_fitted_twice():
    for make in RUNS.values():
        spec = make()
        assert_same(all_weights(fit(spec)), all_weights(fit(spec)))


def test_checkpoints_further_apart_lose_rounds_but_no_bit(tmp_path):
    whole = fit(task_spec(**TASKS))
    parts = resumed(task_spec(**TASKS), 8, tmp_path, every=3)
    assert parts.history[0].round == 6
    assert_same(all_weights(parts), all_weights(whole))


def test_resuming_what_is_finished_trains_no_more(tmp_path):
    spec = task_spec(**TASKS)
    whole = fit(spec, checkpoint=tmp_path)
    again = fit(spec, checkpoint=tmp_path, resume=True)
    assert_same(all_weights(again), all_weights(whole))
    assert again.history == ()


def test_a_run_may_be_extended(tmp_path):
    fit(task_spec(**TASKS), checkpoint=tmp_path)
    longer = fit(task_spec(**{**TASKS, "rounds": 15}), checkpoint=tmp_path, resume=True)
    assert_same(all_weights(longer), all_weights(fit(task_spec(**{**TASKS, "rounds": 15}))))


def test_a_checkpoint_says_which_round_it_is_of(tmp_path):
    fit(task_spec(rounds=7), checkpoint=tmp_path, checkpoint_every=3)
    assert load_checkpoint(tmp_path)["round"] == 7
    with interrupted():
        fit(task_spec(rounds=7), checkpoint=tmp_path / "b", checkpoint_every=3, observer=at_round(5))
    assert load_checkpoint(tmp_path / "b")["round"] == 3


OTHERS = {
    "seed": (task_spec(rounds=3), {"seed": 1}),
    "names": (task_spec(rounds=3, names=("size", "kind")), {}),
    "shapes": (task_spec(rounds=3, encoder=nn.Sequential(*net()[:2], head(5, inputs=6))), {}),
    "dtype": (
        task_spec(
            (table()[0].float(), table()[1]),
            rounds=3,
            encoder=net().float(),
            participants=[Task(t.name, t.head.float(), t.loss) for t in tasks()],
        ),
        {},
    ),
    "aggregator": (task_spec(rounds=3, aggregator=UPGrad()), {}),
    "optimizer": (task_spec(rounds=3, optimizer="adam"), {}),
    "learning rate": (task_spec(rounds=3, lr=0.01), {}),
    "batch size": (task_spec(rounds=3, batch_size=8), {}),
    "schedule": (task_spec(rounds=3, schedule=Alternating()), {}),
    "clipping": (task_spec(rounds=3, clip_norm=1.0), {}),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_checkpoint_of_something_else_is_refused(other, tmp_path):
    spec, options = OTHERS[other]
    same = resumed(task_spec(rounds=3), 1, tmp_path)
    assert same.rounds == 3
    with pytest.raises(CheckpointError, match="of another specification or seed"):
        fit(spec, checkpoint=tmp_path, resume=True, **options)


def test_what_differs_only_by_where_it_lies_in_memory_is_the_same_specification(tmp_path):
    def make():
        return task_spec(rounds=3, optimizer=lambda p, lr: torch.optim.SGD(p, lr=lr))

    resumed_ = fit(make(), checkpoint=tmp_path)
    assert fit(make(), checkpoint=tmp_path, resume=True).rounds == resumed_.rounds


def test_resuming_needs_a_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint here"):
        fit(task_spec(), checkpoint=tmp_path, resume=True)
    with pytest.raises(SpecError, match="resume=True needs checkpoint"):
        fit(task_spec(), resume=True)


# ------------------------------------------------------------------------ losses that are not finite


class Bomb(nn.Module):
    def __init__(self, after):
        super().__init__()
        self.linear, self.after, self.calls = head(1), after, 0

    def forward(self, z):
        self.calls += self.training
        return self.linear(z) * (torch.nan if self.calls > self.after else 1)


def test_the_last_checkpoint_survives_a_loss_that_is_not_finite(tmp_path):
    def spec(after):
        return task_spec(participants=[*tasks(("kind",)), Task("size", Bomb(after), "mse")], rounds=9)

    with pytest.raises(NonFiniteError, match="participant 'size' is nan in round 5; .* is whole"):
        fit(spec(5), checkpoint=tmp_path, checkpoint_every=2)
    state = load_checkpoint(tmp_path)
    assert state["round"] == 4
    assert all(bool(t.isfinite().all()) for ts in state["joint"].values() for t in ts.values())
    healthy = fit(spec(99), checkpoint=tmp_path, resume=True)
    assert_same(all_weights(healthy), all_weights(fit(spec(99))))


def test_parameters_that_are_not_finite_are_not_written(tmp_path):
    """The loss of round 1 is finite, and so is its gradient; the step is not."""
    calls = []

    class Far(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            calls.append(1)
            if len(calls) == 2:
                with torch.no_grad():
                    self.param_groups[0]["params"][0].fill_(torch.inf)

    with pytest.raises(NonFiniteError, match="block 'encoder' holds NaN or infinite values after round 1"):
        fit(task_spec(optimizer=Far, rounds=9), checkpoint=tmp_path, checkpoint_every=1)
    assert load_checkpoint(tmp_path)["round"] == 1


def test_on_an_accelerator_losses_are_read_together_and_none_is_lost():
    told = []
    ledger = Ledger(50, lambda *args: told.append(args), torch.device("cuda"))
    for round_ in range(40):
        ledger.enter(round_, Rows(torch.ones(1, 2), ["a"], losses=torch.tensor([float(round_)])))
    assert [done for done, _, _ in told] == list(range(1, 33))
    ledger.read()
    assert [r.value for r in ledger.records] == list(range(40))
    bad = Ledger(50, None, torch.device("cuda"))
    for round_ in range(10):
        value = torch.nan if round_ == 7 else 1.0
        bad.enter(round_, Rows(torch.ones(1, 2), ["a"], losses=torch.tensor([value])))
    with pytest.raises(NonFiniteError, match="in round 7"):
        bad.read()


# ------------------------------------------------------------------------ nothing else changes


def frozen_state(thing):
    """Everything a specification refers to, for comparison."""
    if isinstance(thing, nn.Module):
        return {
            "mode": [m.training for m in thing.modules()],
            **{n: t.clone() for n, t in thing.state_dict().items()},
        }
    if isinstance(thing, torch.Tensor):
        return thing.clone()
    if isinstance(thing, dict):
        return {k: frozen_state(v) for k, v in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [frozen_state(v) for v in thing]
    if hasattr(thing, "__dict__") and not inspect.isroutine(thing) and not isinstance(thing, type):
        return {k: frozen_state(v) for k, v in vars(thing).items()}
    return repr(thing)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a.nan_to_num(7.5), b.nan_to_num(7.5))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("run", [r for r in RUNS if "loader" not in r])
def test_a_fit_changes_nothing_in_its_specification(run):
    spec = RUNS[run]()
    before = frozen_state(spec)
    fit(spec)
    assert same(before, frozen_state(spec))


def test_frozen_state_notices_a_change():
    spec = task_spec()
    before = frozen_state(spec)
    assert same(before, frozen_state(spec))
    with torch.no_grad():
        spec.encoder[0].weight.add_(1)
    assert not same(before, frozen_state(spec))
    restless = task_spec(aggregator=Restless())
    before = frozen_state(restless)
    restless.aggregator.seen["x"] = torch.ones(())
    assert not same(before, frozen_state(restless))


@pytest.mark.parametrize("run", RUNS)
def test_a_fit_leaves_the_worlds_random_numbers_alone(run):
    spec = RUNS[run]()
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002  the legacy state is the point
    random.seed(7)
    states = torch.random.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    result = fit(spec)
    if run.startswith("tasks"):
        result.evaluate(Noisy(table()))
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert repr(np.random.get_state()) == repr(states[1])  # noqa: NPY002
    assert random.getstate() == states[2]


def test_the_worlds_random_numbers_come_back_after_an_error_too():
    before = torch.random.get_rng_state()
    with pytest.raises(Interrupted):
        fit(task_spec(), observer=at_round(2))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_functions_make_models_under_the_seed():
    def make():
        return nn.Sequential(nn.Linear(4, 5)).double()

    spec = task_spec(encoder=make, rounds=1, lr=1e-300)
    a, b, c = (weights_of(fit(spec, seed=s))["encoder.0.weight"] for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    redrawn = task_spec(encoder=net(), reinitialise=True, rounds=1, lr=1e-300)
    d, e, f = (weights_of(fit(redrawn, seed=s))["encoder.0.weight"] for s in (0, 0, 1))
    assert torch.equal(d, e)
    assert not torch.equal(d, f)
    assert not torch.equal(d, net()[0].weight)


def test_initial_weights_of_one_head_do_not_depend_on_the_other_tasks():
    def make():
        return nn.Linear(5, 1).double()

    x, y = table()
    data = (x, {"a": y["size"], "b": y["size"]})
    both, alone = (
        weights_of(
            fit(task_spec(data, participants=[Task(n, make, "mse") for n in names], rounds=1, lr=1e-300))
        )
        for names in (("a", "b"), ("b",))
    )
    assert torch.equal(both["heads.1.weight"], alone["heads.0.weight"])
    assert not torch.equal(both["heads.0.weight"], both["heads.1.weight"])


# ------------------------------------------------------------------------ what is told


def test_the_observer_hears_of_every_record_once_and_in_order():
    told = []
    x, y = table()
    spec = task_spec((x, y), validation=(x[:9], {n: v[:9] for n, v in y.items()}), evaluate_every=4, rounds=6)
    result = fit(spec, observer=lambda done, total, new: told.append((done, total, tuple(new))))
    assert [r for _, _, new in told for r in new] == list(result.history)
    assert [done for done, _, _ in told] == [1, 2, 3, 4, 4, 5, 6, 6]
    assert {total for _, total, _ in told} == {6}
    assert json.loads(json.dumps(result.history[0].as_dict()))["name"] == "loss"


def test_a_result_says_what_was_run():
    result = fit(task_spec(rounds=5), seed=np.int64(3))
    assert (result.rounds, result.seed) == (5, 3)
    assert type(result.seed) is int
    assert result.seconds > 0
    assert_same(weights_of(result), weights_of(fit(task_spec(rounds=5), seed=3)))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"seed": -1}, "seed=-1"),
        ({"seed": 1.5}, "seed=1.5: must be a whole number"),
        ({"seed": "0"}, "seed='0'"),
        ({"seed": True}, "seed=True"),
        ({"checkpoint_every": 0}, "checkpoint_every=0: must be a whole number of at least 1"),
        ({"checkpoint_every": -5}, "checkpoint_every=-5"),
        ({"checkpoint_every": True}, "checkpoint_every=True"),
    ],
)
def test_arguments_out_of_range_are_refused(options, match, tmp_path):
    with pytest.raises(SpecError, match=match):
        fit(task_spec(), checkpoint=tmp_path, **options)
    assert not (tmp_path / MANIFEST).exists()


def test_an_engine_may_be_anything_with_a_collect():
    class Backwards(Engine):
        def collect(self, participants, request):
            return LoopEngine().collect(participants[::-1], request)

    spec = site_spec(encoder=net(dropout=0.3))
    ours, plain = fit(spec, engine=Backwards()), fit(spec)
    for name, tensor in weights_of(ours).items():
        torch.testing.assert_close(tensor, weights_of(plain)[name], rtol=1e-12, atol=1e-14)


def test_the_joint_of_a_result_is_that_of_its_model():
    result = fit(task_spec())
    for name, tensor in result.joint.blocks["encoder"].items():
        assert tensor is dict(result.model.encoder.named_parameters())[name]
    assert result.joint.blocks["head.size"]["0.weight"].device == CPU


def test_copies_of_a_specification_are_as_good():
    spec = task_spec(**TASKS)
    assert_same(all_weights(fit(copy.deepcopy(spec))), all_weights(fit(spec)))
    assert replace(spec, rounds=2).rounds == spec.replace(rounds=2).rounds == 2

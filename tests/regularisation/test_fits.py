"""Regularised fits: the same on every engine, interrupted or not, and blind to what is missing."""

from __future__ import annotations

import pytest
import torch
from tests.toys import (
    F64,
    all_weights,
    assert_close,
    assert_same,
    fit,
    head,
    net,
    resumed,
    seeded,
    site_spec,
    table,
    task_spec,
    tasks,
    weights_of,
)
from torch import nn

from lianhe.aggregation import (
    FAMO,
    Certified,
    Confident,
    GradDrop,
    Mean,
    MoDo,
    PCGrad,
    Uncertainty,
    UPGrad,
)
from lianhe.core.engine import LoopEngine
from lianhe.core.errors import CheckpointError, DataError, SpecError
from lianhe.core.schedule import Alternating, Proportional
from lianhe.core.spec import Spec
from lianhe.core.step import Add
from lianhe.engines import SharedEngine
from lianhe.participants import Expert, Local, Task, View
from lianhe.regularisation import (
    FGSM,
    L1,
    PGD,
    EarlyStopping,
    FeatureDropout,
    GaussianNoise,
    TaskRelations,
)

X, Y = table(missing=0.3)

PLAIN = {
    "encoder": net(dropout=0.3, norm=True),
    "participants": tasks(dropout=0.2),
    "data": (X, Y),
    "rounds": 6,
    "optimizer": "adam",
    "lr": 0.02,
}


def own(name, rows, seed):
    x, y = table(rows, missing=0.2, seed=seed)
    return Task(name, head(1, seed=seed), "mse", data=(x, y["size"]))


SEPARATE = {**PLAIN, "participants": [own("a", 90, 3), own("b", 30, 4), own("c", 12, 5)], "data": None}
ALIKE = {
    **PLAIN,
    "data": (X, {"a": Y["size"], "b": -Y["size"]}),
    "participants": [Task("a", head(1, seed=1), "mse"), Task("b", head(1, seed=2), "mse")],
}


def momentum(parameters, lr, **options):
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9, **options)


FITS = {
    "l1": {"penalties": [L1(0.01)]},
    "weight decay": {"weight_decay": 0.1},
    "weight decay of an optimiser of one's own": {"weight_decay": 0.1, "optimizer": momentum},
    "noise": {"augment": GaussianNoise(0.3)},
    "noise and blanks": {"augment": [GaussianNoise(0.3), FeatureDropout(0.2)], "batch_size": None},
    "fgsm": {"adversarial": FGSM(0.2)},
    "fgsm on some": {"adversarial": FGSM(0.2, share=0.5), "schedule": Alternating({"kind": 2})},
    "pgd": {"adversarial": PGD(0.3, steps=3)},
    "pgd, euclidean, in turns": {"adversarial": PGD(0.3, 2, norm="2"), "schedule": Proportional(0.5)},
    "relations, learned": {**ALIKE, "penalties": [TaskRelations(strength=0.05, every=3), L1(0.001)]},
    "relations, a graph": {**ALIKE, "penalties": [TaskRelations({("a", "b"): 1.0}, strength=0.2)]},
    "separate data, proportional": {**SEPARATE, "schedule": Proportional(1.0)},
    "separate data, two at a time": {**SEPARATE, "schedule": Proportional(0.5, 2), "clip_norm": 0.5},
    "separate data, noise, an attack": {
        **SEPARATE,
        "schedule": Proportional(0.0, 2),
        "augment": GaussianNoise(0.1),
        "adversarial": FGSM(0.1),
    },
    "everything": {
        **ALIKE,
        "weight_decay": 0.01,
        "clip_norm": 1.0,
        "penalties": [TaskRelations(strength=0.05, every=2)],
        "augment": [GaussianNoise(0.1)],
        "adversarial": PGD(0.1, 2, share=0.5),
        "lr_schedule": lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5),
        "validation": (X, {"a": Y["size"], "b": -Y["size"]}),
        "evaluate_every": 2,
        "stopping": EarlyStopping("a.loss", patience=3),
    },
}
AGGREGATORS = {"": None, "upgrad": UPGrad()}


def make(name, **options):
    given = {**PLAIN, **FITS[name], **options}
    return task_spec(given.pop("data") or "none", **given) if given["data"] else Spec(**given)


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_the_loop_and_the_shared_engine_give_the_same(name, aggregator):
    # Not by Adam, which makes steps of round-off where a gradient is zero, as before batch normalisation.
    spec = make(name, aggregator=AGGREGATORS[aggregator], optimizer="sgd")
    ours, theirs = fit(spec, engine=SharedEngine()), fit(spec, engine=LoopEngine())
    assert_close(weights_of(ours), weights_of(theirs), 1e-11)
    assert [r.participant for r in ours.history] == [r.participant for r in theirs.history]


@pytest.mark.parametrize("name", FITS)
def test_interrupted_and_resumed_is_never_interrupted_bit_for_bit(name, tmp_path):
    whole = fit(make(name, aggregator=PCGrad()))
    for after in (1, 4):
        parts = resumed(make(name, aggregator=PCGrad()), after, tmp_path / str(after))
        assert_same(all_weights(parts), all_weights(whole))
        later = [r for r in whole.history if r.round >= parts.history[0].round]
        assert list(parts.history) == later


@pytest.mark.parametrize("name", FITS)
def test_another_seed_or_none_of_it_gives_something_else(name):
    first, other = weights_of(fit(make(name))), weights_of(fit(make(name), seed=1))
    assert not torch.equal(first["encoder.0.weight"], other["encoder.0.weight"])
    without = fit(
        make(
            name,
            penalties=(),
            weight_decay=None,
            augment=(),
            adversarial=None,
            schedule=None,
            clip_norm=None,
            stopping=None,
            lr_schedule=None,
        )
    )
    assert not torch.equal(first["encoder.0.weight"], weights_of(without)["encoder.0.weight"])


LOOKERS = {
    "reviews": FAMO(),
    "two samples": MoDo(),
    "products": Certified(),
    "values": GradDrop(),
    "losses, with state": Uncertainty(),
}


@pytest.mark.parametrize("looker", LOOKERS)
@pytest.mark.parametrize("name", ["noise and blanks", "pgd", "separate data, noise, an attack"])
def test_methods_that_look_at_a_batch_in_other_ways(looker, name, tmp_path):
    spec = make(name, aggregator=LOOKERS[looker], optimizer="sgd")
    ours, theirs = fit(spec, engine=SharedEngine()), fit(spec, engine=LoopEngine())
    assert_close(weights_of(ours), weights_of(theirs), 1e-10)
    assert_same(all_weights(resumed(spec, 4, tmp_path)), all_weights(ours))


@pytest.mark.parametrize(
    "engine",
    [SharedEngine("sequential"), SharedEngine("vmapped"), SharedEngine("sequential", accumulate=3)],
    ids=["sequential", "vmapped", "accumulated"],
)
@pytest.mark.parametrize("aggregator", [None, UPGrad()], ids=["", "upgrad"])
def test_every_way_of_the_engine_gives_the_same(engine, aggregator):
    spec = task_spec(
        (X, Y),
        rounds=5,
        aggregator=aggregator,
        augment=GaussianNoise(0.1),
        adversarial=PGD(0.1, 2),
        penalties=[L1(0.01)],
        clip_norm=0.5,
    )
    assert_close(weights_of(fit(spec, engine=engine)), weights_of(fit(spec, engine=LoopEngine())), 1e-8)


def test_parts_of_a_batch_are_parts_of_the_attacked_batch():
    seen = []

    class Looking(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net()

        def forward(self, x):
            seen.append(x.detach().clone())
            return self.inner(x)

    spec = task_spec(
        table(), encoder=Looking(), adversarial=FGSM(0.5), batch_size=None, rounds=1, aggregator=MoDo()
    )
    fit(spec)
    moved = torch.empty_like(X)
    for i in range(MoDo.samples):
        moved[i :: MoDo.samples] = seen[i - MoDo.samples]
    assert torch.allclose((moved - X).abs(), torch.full_like(X, 0.5))


@pytest.mark.parametrize("options", [{"augment": GaussianNoise(0.2)}, {"adversarial": PGD(0.2, 2)}], ids=str)
def test_batches_of_a_loader_are_changed_too(options, tmp_path):
    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 40

        def __getitem__(self, i):
            return X[i], {name: labels[i] for name, labels in Y.items()}

    loader = torch.utils.data.DataLoader(Rows(), 16, shuffle=True)
    spec = task_spec(loader, rounds=7, **options)
    ours, theirs = fit(spec, engine=SharedEngine()), fit(spec, engine=LoopEngine())
    assert_close(weights_of(ours), weights_of(theirs), 1e-11)
    assert_same(all_weights(resumed(spec, 4, tmp_path)), all_weights(ours))
    assert not torch.equal(
        weights_of(ours)["encoder.0.weight"], weights_of(fit(task_spec(loader, rounds=7)))["encoder.0.weight"]
    )


@pytest.mark.parametrize("option", ["clip_norm", "lr_schedule"])
@pytest.mark.parametrize("looker", [None, UPGrad(), MoDo(), GradDrop()], ids=repr)
def test_clipping_and_rates_work_with_every_method_and_engine(option, looker):
    schedule = lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)  # noqa: E731
    value = {"clip_norm": 0.1, "lr_schedule": schedule}[option]
    spec = task_spec((X, Y), rounds=6, aggregator=looker, **{option: value})
    ours, theirs = fit(spec, engine=SharedEngine()), fit(spec, engine=LoopEngine())
    assert_close(weights_of(ours), weights_of(theirs), 1e-11)
    free = fit(spec.replace(**{option: None}))
    start = net().state_dict()["0.weight"]
    moved, free_moved = ((weights_of(r)["encoder.0.weight"] - start).norm() for r in (ours, free))
    assert moved < free_moved


@pytest.mark.parametrize(
    "changed",
    [
        {"penalties": [L1(0.1)]},
        {"weight_decay": 0.1},
        {"augment": GaussianNoise(0.2)},
        {"adversarial": FGSM(0.2)},
        {"schedule": Proportional(0.5)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_checkpoint_of_other_regularisation_is_refused(changed, tmp_path):
    given = {
        "penalties": [L1(0.2)],
        "weight_decay": 0.2,
        "augment": GaussianNoise(0.1),
        "adversarial": FGSM(0.1),
        "schedule": Proportional(1.0),
    }
    fit(task_spec(rounds=2, **given), checkpoint=tmp_path)
    assert fit(task_spec(rounds=2, **given), checkpoint=tmp_path, resume=True).rounds == 2
    with pytest.raises(CheckpointError, match="of another specification"):
        fit(task_spec(rounds=2, **{**given, **changed}), checkpoint=tmp_path, resume=True)


# ------------------------------------------------------------------------ what is missing changes nothing


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": Alternating({"size": 2})},
        {"schedule": Proportional(sizes={"size": 3, "kind": 1})},
        {"penalties": [L1(0.01)]},
        {"weight_decay": 0.1, "augment": GaussianNoise(0.1)},
        {"adversarial": PGD(0.1, 2)},
    ],
    ids=lambda options: next(iter(options)),
)
def test_labels_that_are_missing_for_one_task_change_nothing_for_another(options):
    """A task without labels is as good as a task that has its head, and is never there."""
    x, y = table()
    nobody = (x, {**y, "size": torch.full((40,), torch.nan, dtype=F64)})
    spec = task_spec(nobody, names=("size", "kind"), rounds=9, **options)
    heads = [Task("size", head(1, seed=99), "mse"), *tasks(("kind",))]
    first, other = fit(spec), fit(spec.replace(participants=heads))
    for name, tensor in weights_of(first).items():
        if not name.startswith("heads.0"):
            assert torch.equal(tensor, weights_of(other)[name])
    assert {r.participant for r in first.history} == {"kind"}
    initial = heads[0].head.state_dict()["0.weight"]
    assert torch.equal(weights_of(other)["heads.0.0.weight"], initial)


# ------------------------------------------------------------------------ tasks with inputs of their own


class Branches(nn.Module):
    """A branch for pictures and one for rows, to one representation."""

    def __init__(self):
        super().__init__()
        self.picture = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5))
        self.row = nn.Sequential(nn.Linear(7, 5), nn.Tanh())

    def forward(self, x):
        return self.picture(x["picture"]) if "picture" in x else self.row(x["row"])


def branches(**options):
    g = torch.Generator().manual_seed(0)
    pictures = torch.randn(50, 1, 4, 4, generator=g, dtype=F64)
    rows = torch.randn(20, 7, generator=g, dtype=F64)
    bright = Task(
        "bright", head(2, seed=1), data=({"picture": pictures}, (pictures.mean((1, 2, 3)) > 0).long())
    )
    long = Task("long", head(1, seed=2), "mse", data=({"row": rows}, rows.norm(dim=1)))
    given = {"rounds": 12, "batch_size": 8, "lr": 0.05, "optimizer": "sgd", **options}
    return Spec([bright, long], encoder=seeded(Branches, 3), **given)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"schedule": Alternating({"bright": 3})},
        {"schedule": Proportional(0.5), "adversarial": FGSM(0.1)},
        {"schedule": Alternating(2), "augment": GaussianNoise(0.1), "aggregator": UPGrad()},
    ],
    ids=["together", "in turns", "proportional", "in pairs of turns"],
)
def test_tasks_with_inputs_of_different_shape_train_their_own_branch(options, tmp_path):
    spec = branches(**options)
    ours, theirs = fit(spec, engine=SharedEngine()), fit(spec, engine=LoopEngine())
    assert_close(weights_of(ours), weights_of(theirs), 1e-10)
    assert_same(all_weights(resumed(spec, 7, tmp_path)), all_weights(ours))


def test_in_its_turn_a_task_moves_its_own_branch_only():
    start = seeded(Branches, 3).state_dict()
    weights = weights_of(fit(branches(schedule=Alternating({"bright": 5}), rounds=5)))
    assert not torch.equal(weights["encoder.picture.0.weight"], start["picture.0.weight"])
    assert torch.equal(weights["encoder.row.0.weight"], start["row.0.weight"])
    turns = [r.participant for r in fit(branches(schedule=Alternating({"bright": 2}))).history]
    assert turns == ["bright", "bright", "long"] * 4


def test_larger_data_sets_come_more_often():
    history = fit(branches(schedule=Proportional(1.0), rounds=300)).history
    counts = [sum(r.participant == name for r in history) for name in ("bright", "long")]
    assert sum(counts) == 300
    assert abs(counts[0] - 300 * 50 / 70) < 4 * (300 * (5 / 7) * (2 / 7)) ** 0.5


# ------------------------------------------------------------------------ the hook for inputs


def test_what_augments_sees_training_batches_only_and_may_write_into_them():
    seen = []

    def zero(x):
        seen.append(len(x))
        return x.zero_()

    x, y = table()
    before = x.clone()
    spec = task_spec((x, y), validation=(x, y), evaluate_every=2, rounds=4, batch_size=None, augment=zero)
    result = fit(spec)
    assert seen == [40] * 4
    assert torch.equal(x, before)
    blind = fit(spec.replace(data=(torch.zeros_like(x), y), augment=()))
    assert_close(weights_of(result), weights_of(blind), 1e-12)


def test_several_augmentations_follow_each_other():
    spec = task_spec(batch_size=None, rounds=3)
    ours = fit(spec.replace(augment=[lambda x: x + 1, lambda x: 2 * x]))
    theirs = fit(spec.replace(data=(2 * (table()[0] + 1), table()[1])))
    assert_close(weights_of(ours), weights_of(theirs), 1e-12)


def test_what_augments_draws_from_the_stream_of_the_round():
    drawn = {}

    def noisy(x):
        noise = torch.randn_like(x)
        drawn.setdefault(len(drawn), noise)
        return x + noise

    fit(task_spec(rounds=6, augment=noisy))
    first = list(drawn.values())
    drawn.clear()
    torch.manual_seed(123)
    fit(task_spec(rounds=6, augment=noisy, aggregator=UPGrad()), engine=LoopEngine())
    assert all(torch.equal(a, b) for a, b in zip(first, drawn.values(), strict=True))
    assert not torch.equal(first[0], first[1])


def test_augmented_batches_keep_their_length():
    with pytest.raises(DataError, match="augment must give as many samples as it gets, here 16"):
        fit(task_spec(augment=lambda x: x[:3]))


# ------------------------------------------------------------------------ what cannot be


WRONG = {
    "penalty by name": ({"penalties": ["l1"]}, "a member of penalties is 'l1', expected an object of kind"),
    "class of a penalty": ({"penalties": [L1]}, r"kind Penalty: write L1\(…\), an object of it"),
    "a lone penalty": ({"penalties": L1(0.1)}, "penalties is a L1: give a sequence"),
    "stopping by name": (
        {"stopping": "early", "evaluate_every": 1},
        "stopping is 'early', expected an object",
    ),
    "class of an attack": ({"adversarial": FGSM}, r"kind Adversary: write FGSM\(…\)"),
    "augmentation that is none": ({"augment": [3]}, "augment holds 3: expected functions"),
    "class of an augmentation": (
        {"augment": GaussianNoise},
        "augment holds .*GaussianNoise.*: expected func",
    ),
    "augmentation by name": ({"augment": "noise"}, "augment is 'noise': give a sequence"),
    "penalties beside a step": ({"penalties": [L1(0.1)], "step": Add()}, "penalties and weight_decay belong"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_run_is_refused_when_it_is_written_down(wrong):
    options, match = WRONG[wrong]
    with pytest.raises(SpecError, match=match):
        task_spec(**options)


@pytest.mark.parametrize("value", [-0.1, float("nan"), "0", True])
def test_weight_decays_out_of_range_are_refused(value):
    with pytest.raises(SpecError, match=f"weight_decay={value!r}: must be a finite number"):
        task_spec(weight_decay=value)


def test_an_optimiser_that_knows_no_weight_decay_says_so():
    def plain(parameters, lr):
        return torch.optim.SGD(parameters, lr=lr)

    with pytest.raises(
        SpecError, match=r"weight_decay=0.1 is passed to the optimiser, and .*plain.* refuses it"
    ):
        fit(task_spec(optimizer=plain, weight_decay=0.1))
    fit(task_spec(optimizer=plain, rounds=1))


def test_weight_decay_is_that_of_torch():
    ours = fit(task_spec(batch_size=None, rounds=3, optimizer="adamw", weight_decay=0.0))
    theirs = fit(task_spec(batch_size=None, rounds=3, optimizer="adam"))
    assert_close(weights_of(ours), weights_of(theirs), 1e-12)
    default = fit(task_spec(batch_size=None, rounds=3, optimizer="adamw"))
    same = fit(task_spec(batch_size=None, rounds=3, optimizer="adamw", weight_decay=0.01))
    assert_same(weights_of(default), weights_of(same))


OTHERS = {
    "penalties": [L1(0.1)],
    "weight_decay": 0.1,
    "augment": GaussianNoise(0.1),
    "adversarial": FGSM(0.1),
    "stopping": EarlyStopping(),
}


@pytest.mark.parametrize("field", OTHERS)
def test_what_is_not_for_views_or_experts_is_refused(field):
    view = View("v", nn.Linear(4, 3).double(), (X[:9], table()[1]["kind"][:9]), X[9:])
    given = {field: OTHERS[field], "rounds": 2, "evaluate_every": 1}
    with pytest.raises(SpecError, match=f"{field} is (of joint steps: views train by|not for views)"):
        Spec([view], aggregator=Confident(0.9), local=Local(), **given)
    with pytest.raises(SpecError, match=f"{field} is for training, and experts are frozen"):
        Spec([Expert("e", nn.Linear(4, 3))], data=X, **given)


@pytest.mark.parametrize("field", ["penalties", "weight_decay", "augment", "adversarial"])
def test_what_is_not_for_sites_that_train_by_themselves_is_refused(field):
    with pytest.raises(
        SpecError, match=f"{field} is (of joint steps, but these sites|for tasks in one place)"
    ):
        site_spec(**{field: OTHERS[field]})


def test_sites_that_send_gradients_are_penalised_as_tasks_are():
    joint = {"local": None, "across_sites": Mean(), "optimizer": "sgd", "lr": 0.05, "encoder": net()}
    penalised = {"penalties": [L1(0.1)], "weight_decay": 0.2}
    ours = fit(site_spec(**joint, **penalised))
    assert repr(ours.penalties) == "(L1(strength=0.1, blocks=None),)"
    plain = fit(site_spec(**joint))
    small = [weights_of(r)["encoder.0.weight"].abs().sum().item() for r in (ours, plain)]
    assert small[0] < small[1]


def test_sites_are_drawn_in_proportion_to_their_rows():
    history = fit(site_spec(schedule=Proportional(1.0), rounds=120, local=Local(steps=1))).history
    names = [r.participant for r in history if r.task == ""]
    assert len(names) == 120
    for name, rows in {"north": 7, "east": 12, "south": 21}.items():
        p = rows / 40
        assert abs(names.count(name) - 120 * p) < 4 * (120 * p * (1 - p)) ** 0.5


# ------------------------------------------------------------------------ some of the tasks


def test_a_specification_for_some_tasks_keeps_what_is_about_them():
    spec = task_spec(
        participants=[*tasks(("size", "kind")), Task("late", head(1), "mse", reads=("kind",))],
        data=(X, {**Y, "late": Y["size"]}),
        penalties=[
            L1(0.1, ["encoder", "head.size"]),
            L1(0.2, ["head.kind"]),
            TaskRelations({("size", "kind"): 1.0}),
            TaskRelations({("size", "late"): 1.0, ("kind", "late"): 2.0}),
            TaskRelations(),
        ],
        stopping=EarlyStopping("delta_m", 3, reference={"size.loss": 1.0, "late.loss": 2.0}),
        evaluate_every=1,
    )
    alone = spec.among(["size"])
    assert alone.names == ("size",)
    assert repr(alone.penalties) == repr((L1(0.1, ["encoder", "head.size"]),))
    assert alone.stopping.reference == {"size.loss": 1.0}
    late = spec.among(["late"], rounds=3)
    assert (late.names, late.rounds) == (("kind", "late"), 3)
    assert [getattr(p, "graph", "l1") for p in late.penalties] == ["l1", "l1", {("kind", "late"): 2.0}, None]
    kind = spec.among(["kind"])
    assert (kind.stopping.on, kind.stopping.patience) == ("loss", 3)
    assert repr(kind.penalties) == repr((L1(0.1, ["encoder"]), L1(0.2, ["head.kind"])))
    assert EarlyStopping("size.mae").among(["size"]).on == "size.mae"
    assert EarlyStopping("size.mae").among(["kind"]).on == "loss"

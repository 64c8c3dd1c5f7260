"""Server steps against loops written by hand in NumPy, against torch, and in whole federations."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from tests.toys import (
    COVERAGE,
    F64,
    assert_same,
    at_round,
    interrupted,
    net,
    resumed,
    site_spec,
    split,
    table,
    weights_of,
)
from torch import nn

from lianhe.aggregation import Mean, UPGrad
from lianhe.core.checkpoint import load_checkpoint, save_checkpoint
from lianhe.core.contribution import Joint
from lianhe.core.errors import CheckpointError, SpecError
from lianhe.core.schedule import Alternating, Sampled
from lianhe.core.step import Add
from lianhe.experiment.fit import fit
from lianhe.participants import FedAdagrad, FedAdam, FedAvgM, FedYogi, Local, Task
from lianhe.participants.server import SERVER_STEPS

STEPS = {
    "fedavgm": lambda: FedAvgM(0.5, 0.7),
    "fedadagrad": lambda: FedAdagrad(0.03, 0.8, 1e-2),
    "fedadam": lambda: FedAdam(0.02, 0.8, 0.95, 1e-2),
    "fedyogi": lambda: FedYogi(0.04, 0.8, 0.95, 1e-2),
}


@pytest.fixture(params=STEPS)
def step(request):
    return STEPS[request.param]()


def joint(dtype=F64):
    blocks = {b: {"w": nn.Parameter(torch.ones(5, dtype=dtype))} for b in ("encoder", "head")}
    statistics = {"s/statistics": {"mean": torch.zeros(2, dtype=dtype)}}
    return Joint({**blocks, **statistics}, frozenset(statistics))


def delta(k, dtype=F64):
    """Of round k: large ones first, then small ones, and a zero."""
    random = np.random.default_rng(k)
    values = random.normal(size=5) * np.array([1e-3, 0.1, 1.0, 3.0, 0.0]) * (0.2 if k > 3 else 1.0)
    return {"w": torch.tensor(values, dtype=dtype)}


def by_hand(name, deltas):
    """x after each of some rounds, from x = 1."""
    eta, beta1 = {
        "fedavgm": (0.5, 0.7), "fedadagrad": (0.03, 0.8), "fedadam": (0.02, 0.8), "fedyogi": (0.04, 0.8)
    }[name]  # fmt: skip
    x, m, v = np.ones(5), np.zeros(5), np.full(5, 1e-4)
    for d in deltas:
        if name == "fedavgm":
            m = beta1 * m + d
            x = x + eta * m
            continue
        m = beta1 * m + 0.2 * d
        if name == "fedadagrad":
            v = v + d**2
        elif name == "fedadam":
            v = 0.95 * v + 0.05 * d**2
        else:
            v = np.where(v > d**2, v - 0.05 * d**2, np.where(v < d**2, v + 0.05 * d**2, v))
        x = x + eta * m / (np.sqrt(v) + 1e-2)
    return x


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_the_loop_by_hand(name):
    ours, its = joint(), STEPS[name]()
    for k in range(8):
        assert its.apply(ours, {"encoder": delta(k)}) is ours
        expected = by_hand(name, [delta(i)["w"].numpy() for i in range(k + 1)])
        np.testing.assert_allclose(ours.blocks["encoder"]["w"].detach().numpy(), expected, rtol=1e-13)


def test_the_defaults_are_those_of_the_paper():
    for made in (FedAdam(), FedYogi()):
        assert (made.beta1, made.beta2, made.tau) == (0.9, 0.99, 1e-3)
    assert (FedAdagrad().beta1, FedAdagrad().tau) == (0.9, 1e-3)
    assert (FedAvgM().lr, FedAvgM().momentum) == (1.0, 0.9)


def test_without_momentum_fedavgm_is_add():
    ours, theirs, m, add = joint(), joint(), FedAvgM(0.3, 0.0), Add(0.3)
    for k in range(4):
        m.apply(ours, {"encoder": delta(k), "head": delta(k + 9)})
        add.apply(theirs, {"encoder": delta(k), "head": delta(k + 9)})
    for block in ("encoder", "head"):
        assert torch.equal(ours.blocks[block]["w"], theirs.blocks[block]["w"])


def test_fedavgm_is_torchs_sgd_with_momentum_on_pseudo_gradients():
    ours, theirs, m = joint(), nn.Parameter(torch.ones(5, dtype=F64)), FedAvgM(0.3, 0.9)
    sgd = torch.optim.SGD([theirs], lr=0.3, momentum=0.9)
    for k in range(6):
        m.apply(ours, {"encoder": delta(k)})
        theirs.grad = -delta(k)["w"]
        sgd.step()
    torch.testing.assert_close(ours.blocks["encoder"]["w"], theirs, rtol=1e-14, atol=0)


def test_yogi_and_adam_differ_in_how_they_forget():
    """After a large update and a long quiet time, Adam's steps are large again, and Yogi's are not yet."""
    moved = {}
    for kind in (FedAdam, FedYogi):
        ours, its = joint(), kind(0.01, beta1=0.0)
        for size in [1.0] + [0.01] * 500:
            before = ours.blocks["head"]["w"].detach().clone()
            its.apply(ours, {"head": {"w": torch.full((5,), size, dtype=F64)}})
        moved[kind] = float((ours.blocks["head"]["w"].detach() - before).mean())
    assert moved[FedAdam] > 5 * moved[FedYogi] > 0


def test_the_update_is_left_as_it_is(step):
    update = {"encoder": delta(0), "s/statistics": {"mean": torch.ones(2, dtype=F64)}}
    before = copy.deepcopy(update)
    ours = joint()
    for _ in range(2):
        step.apply(ours, update)
    for block, tensors in before.items():
        assert_same(update[block], tensors)


def test_an_absent_block_keeps_value_and_memory(step):
    ours = joint()
    step.apply(ours, {"encoder": delta(0), "head": delta(1)})
    value = ours.blocks["head"]["w"].detach().clone()
    memory = copy.deepcopy(step.state_dict()["memory"]["head"]["w"])
    for k in range(3):
        step.apply(ours, {"encoder": delta(k)})
    assert torch.equal(ours.blocks["head"]["w"], value)
    assert_same(step.state_dict()["memory"]["head"]["w"], memory)
    # And so it goes on as if the others' rounds had not been.
    step.apply(ours, {"head": delta(2)})
    twin, alone = type(step)(**{n: v for n, v in vars(step).items() if n[0] != "_"}), joint()
    for k in (1, 2):
        twin.apply(alone, {"head": delta(k)})
    assert torch.equal(ours.blocks["head"]["w"], alone.blocks["head"]["w"])


def test_tensors_of_one_block_have_memories_of_their_own(step):
    blocks = {"head": {n: torch.ones(5, dtype=F64) for n in ("weight", "bias")}}
    step.apply(Joint(blocks), {"head": {"weight": delta(0)["w"], "bias": delta(1)["w"]}})
    step.apply(Joint(blocks), {"head": {"weight": delta(2)["w"]}})
    kept = {n: t["m"] for n, t in step.state_dict()["memory"]["head"].items()}
    assert list(kept) == ["weight", "bias"]
    fresh = type(step)(**{n: v for n, v in vars(step).items() if n[0] != "_"})
    fresh.apply(joint(), {"head": delta(1)})
    assert torch.equal(kept["bias"], fresh.state_dict()["memory"]["head"]["w"]["m"])


def test_running_statistics_are_plainly_added(step):
    ours = joint()
    for _ in range(2):
        step.apply(ours, {"s/statistics": {"mean": torch.tensor([2.0, -3.0], dtype=F64)}})
    assert ours.blocks["s/statistics"]["mean"].tolist() == [4, -6]
    assert step.state_dict()["memory"] == {}


@pytest.mark.parametrize("kind", [Add, FedAvgM])
def test_variances_stay_positive_however_fast_the_server_is(kind):
    x, y = table(40)
    parts = split((0.2 * x, y))
    local = Local(steps=20, batch_size=None, lr=0.01)
    result = fit(site_spec(parts, encoder=net(norm=True), rounds=1, local=local, step=kind(2.0)))
    assert all(float(t.min()) > 0 for n, t in weights_of(result).items() if n.endswith("running_var"))


def test_the_memory_of_half_precision_is_single(step):
    ours, exact = joint(torch.bfloat16), joint(torch.float32)
    other = copy.deepcopy(step)
    for k in range(6):
        update = delta(k, torch.bfloat16)
        step.apply(ours, {"encoder": update})
        other.apply(exact, {"encoder": {"w": update["w"].float()}})
    memory, theirs = (s.state_dict()["memory"]["encoder"]["w"] for s in (step, other))
    assert {t.dtype for t in memory.values()} == {torch.float32}
    assert ours.blocks["encoder"]["w"].dtype == torch.bfloat16
    assert_same(memory, theirs)


def test_a_step_goes_on_from_its_state(step, tmp_path):
    whole, parts, fresh = joint(), joint(), copy.deepcopy(step)
    its = copy.deepcopy(step)
    for k in range(5):
        its.apply(whole, {"encoder": delta(k)} if k % 2 else {"encoder": delta(k), "head": delta(k + 9)})
    for k in range(5):
        if k == 3:
            save_checkpoint(tmp_path, step.state_dict())
            state = load_checkpoint(tmp_path)
            fresh.load_state_dict(state)
            step = fresh
        step.apply(parts, {"encoder": delta(k)} if k % 2 else {"encoder": delta(k), "head": delta(k + 9)})
    for block in ("encoder", "head"):
        assert torch.equal(parts.blocks[block]["w"], whole.blocks[block]["w"])
    # A state that was loaded is not written into.
    again = load_checkpoint(tmp_path)
    assert_same(state["memory"]["encoder"]["w"], again["memory"]["encoder"]["w"])


@pytest.mark.parametrize("kind", [FedAvgM, FedAdagrad, FedAdam, FedYogi])
def test_wrong_numbers_are_refused_by_name(kind):
    wrong = {"lr": (0, -1, float("nan"), float("inf"), "0.1", True), "tau": (0, -1e-3, None)}
    for decay in ("momentum", "beta1", "beta2"):
        wrong[decay] = (1, 1.0, -0.1, 2, float("nan"), "0.9")
    made = kind()
    for argument, values in wrong.items():
        for value in values if hasattr(made, argument) else ():
            with pytest.raises(SpecError, match=f"{argument} of {kind.__name__}="):
                kind(**{argument: value})


def test_a_step_prints_what_it_was_made_with():
    assert repr(FedYogi(0.1)) == "FedYogi(lr=0.1, beta1=0.9, tau=0.001, beta2=0.99)"
    assert repr(FedAvgM()) == "FedAvgM(lr=1.0, momentum=0.9)"
    assert repr(Add(0.5)) == "Add(lr=0.5)"


def test_names_are_those_of_the_classes():
    assert all(name == made.__name__.lower() for name, made in SERVER_STEPS.items())


# in federations


def test_a_federation_takes_a_copy_and_learns(step):
    spec = site_spec(rounds=15, step=step)
    start, result = fit(spec.replace(rounds=1)), fit(spec)
    assert step.state_dict()["memory"] == {}
    assert_same(weights_of(fit(spec)), weights_of(result))

    def loss(which):
        data = {site.name: site.data for site in spec.participants}
        return sum(r.value for r in which.evaluate(data) if r.name == "loss")

    assert loss(result) < loss(start)


def test_a_federation_without_momentum_is_federated_averaging():
    ours, theirs = (fit(site_spec(rounds=5, step=s)) for s in (FedAvgM(momentum=0.0), None))
    assert_same(weights_of(ours), weights_of(theirs))
    different = fit(site_spec(rounds=5, step=FedAvgM(momentum=0.5)))
    assert not torch.equal(*(r.model.encoder[0].weight for r in (ours, different)))


def test_a_head_that_no_site_of_the_round_holds_stands_still(step):
    """Only "east" holds the flag; the head of the flag moves in its rounds only, momentum or not."""
    spec = site_spec(rounds=6, schedule=Alternating(1), step=step)
    heads = []
    for rounds in range(1, 7):
        state = fit(spec.replace(rounds=rounds)).joint.blocks["head.flag"]
        heads.append(torch.cat([t.detach().flatten() for t in state.values()]))
    moved = [not torch.equal(a, b) for a, b in itertools.pairwise(heads)]
    turns = list(COVERAGE)
    assert moved == [turns[k % 3] == "east" for k in range(1, 6)]


@pytest.mark.parametrize("after", [1, 4])
def test_resumed_is_uninterrupted(step, after, tmp_path):
    spec = site_spec(rounds=7, schedule=Sampled(1), step=step, personal=("head.kind",))
    whole, parts = fit(spec, seed=3), resumed(spec, after, tmp_path, seed=3)
    for name in whole.models:
        assert_same(weights_of(parts, name), weights_of(whole, name))


@pytest.mark.parametrize(("first", "second"), [(FedAdam(), FedAdam(tau=1e-2)), (Add(), Add(0.5))])
def test_a_run_of_another_step_is_not_resumed(first, second, tmp_path):
    with interrupted():
        fit(site_spec(step=first), checkpoint=tmp_path, checkpoint_every=1, observer=at_round(2))
    with pytest.raises(CheckpointError, match="another specification"):
        fit(site_spec(step=second), checkpoint=tmp_path, resume=True)


def test_tasks_are_reconciled_first(step):
    spec = site_spec(rounds=3, across_sites=Mean(), aggregator=UPGrad(), step=step)
    assert fit(spec).rounds == 3


@pytest.mark.parametrize("kind", [Add, FedAvgM, FedAdam])
def test_gradients_are_not_added(kind):
    with pytest.raises(SpecError, match=rf"step={kind.__name__}\(.*adds updates of local training"):
        site_spec(local=None, across_sites=Mean(), step=kind())


def test_where_adaptive_steps_matter():
    """Columns of very different scale: federated averaging hardly moves what FedAdam moves like the rest."""
    x, y = table(60)
    x = x * torch.tensor([1.0, 0.02, 1.0, 1.0], dtype=F64)
    parts = split((x, {"size": y["size"]}), dict.fromkeys(COVERAGE, ("size",)), (20, 20, 20))
    task = Task("size", nn.Linear(4, 1, dtype=F64), "mse")
    options = {"encoder": None, "tasks": [task], "rounds": 200, "local": Local(steps=2, lr=0.05)}

    def loss(step):
        result = fit(site_spec(parts, **options, step=step))
        return sum(r.value for r in result.evaluate(parts) if r.name == "loss")

    assert loss(FedAdam(0.5, tau=1e-4)) < 0.2 * loss(Add())

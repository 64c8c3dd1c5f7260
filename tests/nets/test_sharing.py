"""What every sharing architecture must hold: shapes, owners, copies, and fits on which engines agree."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.nets.cases import IMAGES, TASKS, VECTORS, built, images, losses, pooled, reached, spec
from tests.toys import CPU, OUTPUTS, Shortest, assert_close, assert_same, table, weights_of
from torch import nn
from torch.utils._pytree import tree_leaves

from lianhe.aggregation import UPGrad
from lianhe.core.engine import LoopEngine
from lianhe.core.errors import SpecError
from lianhe.core.streams import Stream
from lianhe.engines import SharedEngine
from lianhe.experiment.fit import fit
from lianhe.nets import LoRA, MMoE
from lianhe.participants.model import fresh

vectors = pytest.mark.parametrize("sharing", VECTORS.values(), ids=VECTORS)
on_images = pytest.mark.parametrize("sharing", IMAGES.values(), ids=IMAGES)


@vectors
def test_heads_give_predictions(sharing) -> None:
    encoder, heads = built(sharing)
    x, _ = table(7)
    z = encoder(x)
    assert {t: h(z).shape for t, h in heads.items()} == {t: (7, OUTPUTS[t]) for t in TASKS}


@vectors
def test_without_a_tower_a_head_gives_the_features(sharing) -> None:
    features = sharing.head("kind")(sharing.encoder()(torch.zeros(3, 4)))
    assert features.shape == (3, 5)


@pytest.mark.parametrize(
    ("sharing", "data", "wrap"),
    [
        *(pytest.param(s, table(30), lambda t: t, id=name) for name, s in VECTORS.items()),
        *(pytest.param(s, images(), pooled, id=f"{name} on images") for name, s in IMAGES.items()),
    ],
)
def test_every_parameter_is_with_those_whose_losses_reach_it(sharing, data, wrap) -> None:
    encoder, heads = built(sharing, wrap=wrap)
    own = {n: t for t, ps in getattr(encoder, "private", dict)().items() for n in ps}
    for name, tasks in reached(encoder, heads, data).items():
        owner, _, parameter = name.partition(":")
        if owner != "encoder":
            # The softmax of one logit is 1, whatever the logit.
            constant = sharing is VECTORS["mmoe one"] and "gate" in name
            assert tasks == (set() if constant else {owner}), name
        elif parameter in own:
            assert tasks == {own[parameter]}, name
        else:
            assert len(tasks) > 1, name


@vectors
def test_private_parameters_are_the_encoders_own(sharing) -> None:
    encoder = sharing.encoder()
    named = dict(encoder.named_parameters())
    for parameters in getattr(encoder, "private", dict)().values():
        assert parameters
        assert all(named[name] is parameter for name, parameter in parameters.items())


@vectors
@pytest.mark.parametrize("aggregator", [None, Shortest()], ids=["mean", "gramian"])
def test_both_engines_agree(sharing, aggregator) -> None:
    given = spec(sharing, aggregator=aggregator)
    shared, loop = (fit(given, engine=engine) for engine in (SharedEngine(), LoopEngine()))
    assert_close(weights_of(shared), weights_of(loop))
    assert any(
        not torch.equal(w, given.encoder.state_dict()[n.removeprefix("encoder.")])
        for n, w in weights_of(shared).items()
        if n.startswith("encoder.")
    )


@on_images
def test_both_engines_agree_on_images(sharing) -> None:
    given = spec(sharing, images(), pooled, rounds=3, batch_size=6, aggregator=UPGrad())
    shared, loop = (fit(given, engine=engine) for engine in (SharedEngine(), LoopEngine()))
    assert_close(weights_of(shared), weights_of(loop))


# torch loads its own decompositions for forward mode, by a function that it has deprecated.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@vectors
def test_derivatives_forwards_and_in_batches(sharing) -> None:
    """What engines may ask of an encoder: one product with all tasks, several cotangents at once."""
    encoder = built(sharing)[0].eval()
    x, _ = table(7)
    point = {n: p.detach() for n, p in encoder.named_parameters()}
    tangent = {n: torch.randn_like(p) for n, p in point.items()}
    leaves = tree_leaves(encoder(x))
    _, forwards = torch.func.jvp(
        lambda p: tree_leaves(torch.func.functional_call(encoder, p, (x,))), (point,), (tangent,)
    )
    cotangents = [torch.randn_like(z) for z in leaves]
    kept = [i for i, z in enumerate(leaves) if z.requires_grad]
    parameters = {n: p for n, p in encoder.named_parameters() if p.requires_grad}
    backwards = torch.autograd.grad(
        [leaves[i] for i in kept],
        list(parameters.values()),
        [torch.stack([cotangents[i], 2 * cotangents[i]]) for i in kept],
        is_grads_batched=True,
    )
    if len(parameters) == len(point):
        product = sum((forwards[i] * cotangents[i]).sum() for i in kept)
        expected = sum((g[0] * tangent[n]).sum() for n, g in zip(parameters, backwards, strict=True))
        torch.testing.assert_close(product, expected)
    assert all(torch.allclose(2 * one, two) for one, two in backwards)


@vectors
def test_nothing_is_made_on_another_device(sharing) -> None:
    encoder, head = sharing.encoder().to("meta"), sharing.head("kind", nn.Linear(5, 3)).to("meta")
    assert head(encoder(torch.zeros(7, 4, device="meta"))).shape == (7, 3)


@vectors
def test_copies_and_states_are_whole(sharing) -> None:
    encoder, heads = built(sharing)
    twins = copy.deepcopy((encoder, heads))
    others = built(sharing, seed=9)
    data = table(20)
    for one, other in zip([encoder, *heads.values()], [others[0], *others[1].values()], strict=True):
        other.load_state_dict(one.state_dict())
    expected = losses(encoder, heads, data)
    assert_same(losses(*twins, data), expected)
    assert_same(losses(*others, data), expected)


@vectors
def test_every_part_can_draw_new_weights(sharing) -> None:
    for part in (sharing.encoder(), sharing.head("kind", nn.Linear(5, 3))):
        one, again, other = (fresh(part, Stream(seed, 0, "part", "weights"), CPU, True) for seed in (0, 0, 1))
        assert_same(dict(one.state_dict()), dict(again.state_dict()))
        matrices = [
            n
            for n, p in one.named_parameters()
            if p.requires_grad and p.ndim > 1 and "stitch" not in n and n[-1] != "B"
        ]
        assert all(not torch.equal(one.get_parameter(n), other.get_parameter(n)) for n in matrices)


def test_functions_make_a_fresh_model_for_every_seed() -> None:
    sharing = MMoE(lambda: nn.Linear(4, 5, dtype=torch.float64), experts=2, inputs=4)
    given = spec(sharing, rounds=1, lr=1e-9).replace(encoder=sharing.encoder)
    one, other = (weights_of(fit(given, seed=seed)) for seed in (0, 1))
    assert not torch.equal(one["encoder.experts.experts.0.weight"], other["encoder.experts.experts.0.weight"])


def test_towers_by_task_become_heads_by_task() -> None:
    heads = VECTORS["mmoe"].heads({"kind": nn.Linear(5, 3), "flag": lambda: nn.Linear(5, 1)})
    z = VECTORS["mmoe"].encoder()(torch.zeros(2, 4))
    assert {t: h(z).shape[1] for t, h in heads.items()} == {"kind": 3, "flag": 1}


@vectors
def test_mixed_precision(sharing) -> None:
    x, y = table(missing=0.2)
    data = x.float(), {t: labels if t == "kind" else labels.float() for t, labels in y.items()}
    given = spec(sharing, data, autocast=torch.bfloat16, aggregator=Shortest(), rounds=2)
    given.encoder.float()
    for task in given.participants:
        task.head.float()
    weights = weights_of(fit(given, engine=SharedEngine()))
    assert all(w.dtype == torch.float32 for n, w in weights.items() if "num_batches" not in n)


@pytest.mark.parametrize("name", ["ple two", "crossstitch", "mtan", "lora"])
def test_tasks_that_an_architecture_was_not_made_for_are_refused(name) -> None:
    with pytest.raises(SpecError, match="did you mean 'kind'"):
        VECTORS[name].head("kinds")


@pytest.mark.parametrize("tasks", ["kind", [], ["kind", "kind"]])
def test_names_of_tasks_are_several_different_ones(tasks) -> None:
    with pytest.raises(SpecError, match="give different names of tasks"):
        LoRA(nn.Linear(4, 5), tasks)


def test_a_function_that_makes_no_module_is_refused() -> None:
    with pytest.raises(SpecError, match="expected a torch module"):
        MMoE(lambda: 3, inputs=4).encoder()

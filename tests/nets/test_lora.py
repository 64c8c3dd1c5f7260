"""Low-rank adapters: nothing at first, low rank ever after, and gone once merged."""

from __future__ import annotations

import pytest
import torch
from tests.nets.cases import TASKS, VECTORS, built, spec
from tests.toys import assert_same, seeded, table, weights_of
from torch import nn
from torch.nn import functional

from lianhe.core.engine import LoopEngine
from lianhe.core.errors import SpecError
from lianhe.engines import SharedEngine
from lianhe.experiment.fit import fit
from lianhe.nets import MLP, Adapters, ConvNet, LoRA, MeanPixel


@pytest.mark.parametrize(
    ("base", "x"),
    [
        (MLP(4, [6, 5]), torch.randn(3, 4)),
        (ConvNet(2, [4, 6], norm="group"), torch.randn(3, 2, 9, 9)),
        (nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), torch.randn(3, 5, 8)),
        (nn.Linear(4, 5), torch.randn(3, 4)),
        (nn.Sequential(nn.Conv1d(2, 4, 3, groups=2), nn.Flatten()), torch.randn(3, 2, 8)),
    ],
    ids=["vectors", "images", "attention", "one layer", "groups"],
)
def test_it_begins_as_the_plain_encoder(base, x) -> None:
    z = LoRA(base, TASKS, rank=2).encoder()(x)
    expected = base(x)
    assert list(z) == list(TASKS)
    for part in z.values():
        torch.testing.assert_close(part, expected, rtol=0, atol=0)


def test_a_change_adds_a_narrow_path_beside_each_layer() -> None:
    encoder, _ = built(VECTORS["lora"])
    x, _ = table(6)
    first, second = encoder.base[0], encoder.base[2]
    for number, task in enumerate(TASKS):
        a, b = encoder.changes[number]
        hidden = (first(x) + (x @ a.A.T) @ a.B.T).relu()
        expected = (second(hidden) + (hidden @ b.A.T) @ b.B.T).relu()
        torch.testing.assert_close(encoder(x)[task], expected)


def test_on_images_the_narrow_path_is_two_convolutions() -> None:
    def conv() -> nn.Module:
        return nn.Conv2d(3, 5, 3, padding=1)

    encoder, _ = built(LoRA(conv, TASKS, rank=2, alpha=6.0), wrap=lambda t: nn.Sequential(MeanPixel(), t))
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    change = encoder.changes[1][0]
    narrow = functional.conv2d(x, change.A.view(2, 3, 3, 3), padding=1)
    expected = encoder.base(x) + 6 / 2 * functional.conv2d(narrow, change.B.view(5, 2, 1, 1))
    torch.testing.assert_close(encoder(x)["kind"], expected)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_changes_are_of_low_rank(rank) -> None:
    encoder, _ = built(LoRA(lambda: MLP(4, [6, 5]), TASKS, rank=rank))
    changed = encoder.weights("kind")
    assert list(changed) == ["0.weight", "2.weight"]
    for name, weight in changed.items():
        assert torch.linalg.matrix_rank(weight - encoder.base.get_parameter(name)) == rank


@pytest.mark.parametrize("freeze", [False, True])
def test_merged_it_is_a_plain_encoder(freeze) -> None:
    encoder, _ = built(LoRA(lambda: ConvNet(1, [3, 5]), TASKS, rank=2, freeze=freeze), wrap=lambda t: t)
    encoder.eval()
    x = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    for task, z in encoder(x).items():
        merged = encoder.merged(task)
        assert type(merged) is ConvNet
        torch.testing.assert_close(merged(x), z)


def test_the_given_encoder_is_copied_and_a_frozen_one_does_not_move() -> None:
    base = seeded(lambda: MLP(4, [6, 5]), 0)
    before = {n: p.clone() for n, p in base.state_dict().items()}
    given = spec(LoRA(base, TASKS, rank=2, freeze=True), rounds=5)
    result = fit(given, engine=SharedEngine())
    trained = result.model.encoder
    for name, value in trained.base.state_dict().items():
        assert torch.equal(value, given.encoder.base.state_dict()[name])
    assert any((p != given.encoder.get_parameter(n)).any() for n, p in trained.named_parameters())
    assert_same(base.state_dict(), before)
    assert all(p.requires_grad for p in base.parameters())


def test_a_batch_counts_once_in_running_statistics_whatever_the_engine() -> None:
    sharing = LoRA(lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 5)), TASKS)
    given = spec(sharing, rounds=3)
    shared, loop = (weights_of(fit(given, engine=engine)) for engine in (SharedEngine(), LoopEngine()))
    names = [n for n in shared if "running" in n or "batches" in n]
    assert len(names) == 3
    for name in names:
        torch.testing.assert_close(shared[name], loop[name])


def test_only_some_layers_may_be_changed() -> None:
    encoder = LoRA(MLP(4, [6, 5], outputs=3), TASKS, rank=2, layers=["4"]).encoder()
    assert isinstance(encoder, Adapters)
    assert encoder.names == {"4.weight": 0}


def _shared_layer() -> nn.Sequential:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.Tanh(), layer)


def _shared_weight() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    return net


@pytest.mark.parametrize("make", [_shared_layer, _shared_weight])
def test_a_weight_that_layers_share_is_changed_once(make) -> None:
    base = make()
    encoder = LoRA(base, TASKS, rank=2).encoder()
    assert all(len(changes) == 1 for changes in encoder.changes)
    with torch.no_grad():
        encoder.changes[0][0].B.fill_(1.0)
    x = torch.randn(3, 4)
    weight = base[0].weight + torch.ones(4, 2) @ encoder.changes[0][0].A
    hidden = (x @ weight.T + base[0].bias).tanh()
    for _ in range(2):
        z = encoder(x)
        torch.testing.assert_close(z["size"], hidden @ weight.T + base[2].bias)
        torch.testing.assert_close(z["kind"], base(x))
    torch.testing.assert_close(encoder.merged("size")(x), z["size"])


def test_wrong_options_are_refused() -> None:
    with pytest.raises(SpecError, match="rank=0"):
        LoRA(MLP(4, [5]), TASKS, rank=0)
    with pytest.raises(SpecError, match="alpha=-1"):
        LoRA(MLP(4, [5]), TASKS, alpha=-1)
    with pytest.raises(SpecError, match="layer of LoRA"):
        LoRA(MLP(4, [5]), TASKS, layers=["first"]).encoder()
    with pytest.raises(SpecError, match="weights of two dimensions"):
        LoRA(nn.Sequential(nn.ReLU()), TASKS).encoder()
    with pytest.raises(SpecError, match="weights of two dimensions"):
        LoRA(nn.Sequential(nn.LayerNorm(4)), TASKS, layers=["0"]).encoder()

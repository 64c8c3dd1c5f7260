"""Token states and pooled states of texts of unequal length."""

import pytest
import torch
from tests.toys import F64, assert_close, seeded, weights_of
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lianhe.core.engine import LoopEngine
from lianhe.core.errors import SpecError
from lianhe.core.spec import Spec
from lianhe.engines import SharedEngine
from lianhe.experiment.fit import fit
from lianhe.nets import PerToken, Pick, TextEncoder
from lianhe.participants import Task

TEXTS = torch.tensor([[4, 2, 7, 1, 5], [3, 6, 0, 0, 0], [1, 1, 2, 0, 0]])
LENGTHS = [5, 2, 3]


@pytest.mark.parametrize("kind", ["gru", "conv", "mean"])
def test_filling_up_changes_nothing(kind) -> None:
    encoder = seeded(lambda: TextEncoder(9, 6, kind, layers=2), 0)
    z = encoder(TEXTS)
    longer = encoder(torch.cat([TEXTS, torch.zeros(3, 4, dtype=torch.long)], 1))
    torch.testing.assert_close(longer["tokens"][:, :5], z["tokens"])
    assert (longer["tokens"][:, 5:] == 0).all()
    torch.testing.assert_close(longer["pooled"], z["pooled"])
    for i, length in enumerate(LENGTHS):
        alone = encoder(TEXTS[i : i + 1, :length])
        torch.testing.assert_close(alone["tokens"][0], z["tokens"][i, :length])
        torch.testing.assert_close(z["pooled"][i], z["tokens"][i, :length].mean(0))


def test_both_directions_equal_torchs_packed_network() -> None:
    encoder = seeded(lambda: TextEncoder(9, 6, "gru"), 1)
    both = nn.GRU(6, 3, batch_first=True, bidirectional=True).double()
    state = {n: p.clone() for n, p in encoder.context[0].forwards.state_dict().items()}
    backwards = encoder.context[0].backwards.state_dict().items()
    both.load_state_dict({**state, **{f"{n}_reverse": p for n, p in backwards}})
    packed = pack_padded_sequence(encoder.embedding(TEXTS), LENGTHS, batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(both(packed)[0], batch_first=True)
    torch.testing.assert_close(encoder(TEXTS)["tokens"], expected)


def test_a_bag_of_words_is_the_mean_of_embeddings() -> None:
    encoder = seeded(lambda: TextEncoder(9, 4, "mean"), 2)
    expected = torch.stack([encoder.embedding.weight[t[t > 0]].mean(0) for t in TEXTS])
    torch.testing.assert_close(encoder(TEXTS)["pooled"], expected)


def test_windows_reach_two_tokens_to_either_side() -> None:
    encoder = seeded(lambda: TextEncoder(9, 4, "conv"), 3)
    other = TEXTS.clone()
    other[0, 4] = 8
    changed = (encoder(TEXTS)["tokens"] != encoder(other)["tokens"]).any(-1)
    assert changed[0].tolist() == [False, False, True, True, True]
    assert not changed[1:].any()


@pytest.mark.parametrize("kind", ["gru", "conv", "mean"])
def test_an_empty_text_is_zero(kind) -> None:
    z = TextEncoder(9, 4, kind)(torch.zeros(2, 3, dtype=torch.long))
    assert (z["pooled"] == 0).all()
    assert (z["tokens"] == 0).all()


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(SpecError, match="width=5 must be even"):
        TextEncoder(9, 5)
    with pytest.raises(SpecError, match="valid are conv, gru, mean"):
        TextEncoder(9, 4, "transformer")
    with pytest.raises(SpecError, match="vocabulary=0"):
        TextEncoder(0)


@pytest.mark.parametrize("kind", ["gru", "conv"])
def test_intent_and_slots_in_one_fit(kind) -> None:
    slots = torch.where(TEXTS > 0, TEXTS % 3, -100)
    encoder = seeded(lambda: TextEncoder(9, 6, kind), 4)
    tasks = [
        Task("intent", Pick("pooled", seeded(lambda: nn.Linear(6, 2), 5))),
        Task("slots", Pick("tokens", seeded(lambda: PerToken(6, 3), 6)), metrics=["accuracy"]),
    ]
    data = (TEXTS, {"intent": torch.tensor([0, 1, 1]), "slots": slots})
    spec = Spec(tasks, encoder=encoder, data=data, rounds=30, lr=0.1)
    shared, loop = (fit(spec, engine=engine) for engine in (SharedEngine(), LoopEngine()))
    assert_close(weights_of(shared), weights_of(loop))
    assert encoder.embedding.weight.dtype == F64
    losses = [
        r.value
        for r in shared.history
        if r.participant == "slots" and r.name == "loss" and r.split == "train"
    ]
    assert losses[-1] < 0.2 * losses[0]

"""Multi-gate mixture of experts, against the sums of the paper."""

from __future__ import annotations

import pytest
import torch
from tests.nets.cases import TASKS, VECTORS, built, spec
from tests.toys import F64, LOSS, assert_close, seeded, table, weights_of
from torch import nn

from lianhe.core.engine import LoopEngine
from lianhe.core.errors import SpecError
from lianhe.core.spec import Spec
from lianhe.engines import SharedEngine
from lianhe.experiment.fit import fit
from lianhe.nets import MLP, MMoE, PerToken, Pick, TextEncoder
from lianhe.participants import Task


def test_a_task_mixes_experts_by_its_own_gate() -> None:
    encoder, heads = built(VECTORS["mmoe"])
    x, _ = table(6)
    for task in TASKS:
        (gate,) = heads[task].gate.parameters()
        expected = torch.zeros(6, 5, dtype=F64)
        for row in range(6):
            logits = [(gate[i] @ x[row]).item() for i in range(3)]
            total = sum(torch.tensor(v, dtype=F64).exp() for v in logits)
            for i in range(3):
                share = torch.tensor(logits[i], dtype=F64).exp() / total
                expected[row] += share * encoder.experts.experts[i](x[row : row + 1])[0]
        torch.testing.assert_close(heads[task](encoder(x)), heads[task].tower(expected))


def test_one_expert_is_hard_sharing() -> None:
    mixture = spec(VECTORS["mmoe one"], rounds=8)
    plain = mixture.replace(
        encoder=mixture.encoder.experts.experts[0],
        participants=[Task(t.name, t.head.tower, t.loss) for t in mixture.participants],
    )
    ours, theirs = (weights_of(fit(s, engine=SharedEngine())) for s in (mixture, plain))
    renamed = {
        n.replace("encoder.experts.experts.0.", "encoder.").replace(".tower.", "."): t
        for n, t in ours.items()
        if ".gate." not in n
    }
    assert_close({n: renamed[n] for n in theirs}, theirs)


def test_inputs_may_be_mappings_and_gates_of_any_kind() -> None:
    def gate(outputs: int) -> nn.Module:
        return Pick("right", nn.Linear(2, outputs))

    sharing = MMoE(lambda: Pick("left", nn.Linear(3, 5)), experts=2, make_gate=gate)
    x = {"left": torch.randn(4, 3), "right": torch.randn(4, 2)}
    encoder, head = sharing.encoder(), sharing.head("a")
    weights = head.gate.logits(x).softmax(1)
    outputs = [e.body(x["left"]) for e in encoder.experts.experts]
    torch.testing.assert_close(head(encoder(x)), weights[:, :1] * outputs[0] + weights[:, 1:] * outputs[1])


def test_experts_on_texts_give_states_of_tokens_and_of_texts() -> None:
    def gate(outputs: int) -> nn.Module:
        return nn.Sequential(TextEncoder(9, 4, "mean"), Pick("pooled", nn.Linear(4, outputs)))

    sharing = MMoE(lambda: TextEncoder(9, 6), experts=2, make_gate=gate)
    texts = torch.tensor([[4, 2, 7], [3, 6, 0], [1, 0, 0]])
    y = {"intent": torch.tensor([0, 1, 1]), "slots": torch.where(texts > 0, texts % 3, -100)}
    towers = {"intent": Pick("pooled", nn.Linear(6, 2)), "slots": Pick("tokens", PerToken(6, 3))}
    tasks = [Task(t, seeded(lambda t=t: sharing.head(t, towers[t]), 3)) for t in towers]
    given = Spec(tasks, encoder=seeded(sharing.encoder, 2), data=(texts, y), rounds=3)
    shared, loop = (weights_of(fit(given, engine=e)) for e in (SharedEngine(), LoopEngine()))
    assert_close(shared, loop)


@pytest.mark.parametrize(
    ("sharing", "message"),
    [
        (MMoE(lambda: nn.Linear(4, 5)), "inputs=None, make_gate=None: give exactly one"),
        (MMoE(lambda: nn.Linear(4, 5), inputs=4, make_gate=lambda n: nn.Linear(4, n)), "exactly one"),
        (MMoE(lambda: nn.Linear(4, 5), inputs=0), "inputs=0"),
    ],
)
def test_a_gate_reads_inputs_of_a_known_size(sharing, message) -> None:
    with pytest.raises(SpecError, match=message):
        sharing.head("a")


def test_wrong_experts_are_refused() -> None:
    with pytest.raises(SpecError, match="experts=0"):
        MMoE(lambda: nn.Linear(4, 5), experts=0, inputs=4).encoder()
    with pytest.raises(SpecError, match="make_expert is a MLP: give a function"):
        MMoE(MLP(4, [5]), inputs=4).encoder()


def test_the_fit_says_which_head_does_not_fit() -> None:
    sharing = MMoE(lambda: nn.Linear(4, 5, dtype=F64), inputs=3)
    tasks = [Task("size", seeded(lambda: sharing.head("size", nn.Linear(5, 1)), 0), LOSS["size"])]
    with pytest.raises(SpecError, match="the head of task 'size' refuses its input"):
        fit(Spec(tasks, encoder=sharing.encoder, data=table(), rounds=1))

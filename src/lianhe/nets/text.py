"""A small text encoder: states of tokens, and of the whole text."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lianhe.core.checks import require_whole
from lianhe.core.errors import SpecError, UnknownNameError

#: the token that fills up short texts
PADDING = 0


class TextEncoder(nn.Module):
    """Embedded tokens, put into context, and their mean.

    pooled = Σ_l m_l h_l / Σ_l m_l over the tokens h_l of a text, m_l = 0 where it is filled up. Filling does
    not change the state of any token, however long it is.

    The result is a mapping: "tokens" [n, L, width] (zero where the text is filled up) and "pooled"
    [n, width]. Heads choose by `Pick("tokens", PerToken(width, slots))`, `Pick("pooled", nn.Linear(width,
    intents))`.

    Args:
        vocabulary: number of different tokens, with the filling one; texts are whole numbers [n, L], filled
            up with 0 at their end.
        width: of embeddings and states; even for "gru".
        kind: "mean" (a bag of words: states are embeddings), "conv" (windows of 5 tokens), or "gru" (both
            directions).
        layers: of "gru" and "conv".
        dropout: probability of dropping a unit of an embedding.

    Raises:
        SpecError: if a number does not fit, or there is no such kind.

    Example:
        >>> encoder = TextEncoder(100, width=8)
        >>> z = encoder(torch.tensor([[5, 7, 9], [3, 0, 0]]))
        >>> {name: tuple(part.shape) for name, part in z.items()}
        {'tokens': (2, 3, 8), 'pooled': (2, 8)}
        >>> bool((z["pooled"][1] == z["tokens"][1, 0]).all())
        True
    """

    def __init__(
        self, vocabulary: int, width: int = 64, kind: str = "gru", layers: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        for name, value in (("vocabulary", vocabulary), ("width", width), ("layers", layers)):
            require_whole(f"TextEncoder: {name}", value, 1)
        if kind not in _CONTEXTS:
            raise UnknownNameError("kind of TextEncoder", str(kind), _CONTEXTS)
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PADDING)
        self.dropout = nn.Dropout(dropout)
        self.context = nn.ModuleList(_CONTEXTS[kind](width) for _ in range(layers if kind != "mean" else 0))

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """States of tokens and of texts."""
        there = tokens != PADDING
        states = self.dropout(self.embedding(tokens))
        for layer in self.context:
            states = layer(states, there)
        mask = there[..., None].to(states)
        states = states * mask
        return {"tokens": states, "pooled": states.sum(1) / mask.sum(1).clamp_min(1)}


class PerToken(nn.Module):
    """Logits of every token, classes first as cross-entropy wants them: [n, L, inputs] to [n, outputs, L].

    Labels are whole numbers [n, L], -100 where the text is filled up.

    Args:
        inputs: size of a token's state.
        outputs: number of classes.

    Example:
        >>> PerToken(8, 3)(torch.zeros(2, 7, 8)).shape
        torch.Size([2, 3, 7])
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, states: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.linear(states)
        return logits.movedim(-1, 1)


class _Windows(nn.Module):
    """A convolution over windows of five tokens, added to what it reads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(width, width, 5, padding=2)

    def forward(self, states: Tensor, there: Tensor) -> Tensor:
        seen = (states * there[..., None]).movedim(1, 2)
        result: Tensor = states + self.convolution(seen).relu().movedim(1, 2)
        return result


class _BothWays(nn.Module):
    """Two recurrent networks, one of which reads the text backwards from its own end, not the filling's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        if width % 2:
            raise SpecError(f"TextEncoder: width={width} must be even: half of it for each direction")
        self.forwards = nn.GRU(width, width // 2, batch_first=True)
        self.backwards = nn.GRU(width, width // 2, batch_first=True)

    def forward(self, states: Tensor, there: Tensor) -> Tensor:
        turned = _turned(there)[..., None]
        ahead, _ = self.forwards(states)
        behind, _ = self.backwards(states.take_along_dim(turned, 1))
        return torch.cat([ahead, behind.take_along_dim(turned, 1)], -1)


_CONTEXTS: dict[str, type[nn.Module]] = {"mean": nn.Module, "conv": _Windows, "gru": _BothWays}


def _turned(there: Tensor) -> Tensor:
    """Positions [n, L] that turn every text round and leave what fills it up where it is."""
    at = torch.arange(there.shape[1], device=there.device)
    length = (there * (at + 1)).amax(1, keepdim=True)
    return torch.where(at < length, length - 1 - at, at)

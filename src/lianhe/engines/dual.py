"""Inner products of tasks' gradients on linear layers, without these gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from lianhe.engines.compiled import compiled
from lianhe.engines.heads import Asked
from lianhe.linalg import gramian


@dataclass(frozen=True, slots=True)
class Seen:
    """A linear layer in one forward pass.

    Args:
        layer: it.
        x: its input, [m, in].
        edge: where gradients of its output arrive.
    """

    layer: nn.Linear
    x: Tensor
    edge: GradientEdge

    @property
    def learnt(self) -> list[nn.Parameter]:
        """Its parameters that are not frozen."""
        return [p for p in self.layer.parameters() if p.requires_grad]


@dataclass
class Watch:
    """Linear layers of an encoder, as they were used in one forward pass."""

    seen: dict[int, Seen] = field(default_factory=dict)
    often: set[int] = field(default_factory=set)

    def note(self, layer: nn.Module, inputs: Any, output: Any) -> None:
        """A forward hook."""
        assert isinstance(layer, nn.Linear)
        # A weight that was put in its place for this pass, as by functional_call, is another one.
        own = isinstance(layer.weight, nn.Parameter)
        if id(layer) in self.seen or not own or not output.requires_grad:
            self.often.add(id(layer))
            return
        x = inputs[0].detach()
        self.seen[id(layer)] = Seen(layer, x.reshape(-1, x.shape[-1]), get_gradient_edge(output))

    def worth_it(self) -> list[Seen]:
        """Layers used once, with fewer rows than inputs: there, the dual form is the cheaper one."""
        once = [seen for key, seen in self.seen.items() if key not in self.often]
        return [s for s in once if s.layer.weight.requires_grad and len(s.x) <= s.x.shape[1]]


@contextmanager
def watched(encoder: nn.Module) -> Iterator[Watch]:
    """Take note of how linear layers are used in the forward passes inside."""
    watch = Watch()
    # Hooks would compile it anew.
    layers = [] if compiled(encoder) else [part for part in encoder.modules() if _plain(part)]
    hooks = [layer.register_forward_hook(watch.note) for layer in layers]
    try:
        yield watch
    finally:
        for hook in hooks:
            hook.remove()


def _plain(part: nn.Module) -> bool:
    """A linear layer that nobody else has a hand in."""
    return type(part) is nn.Linear and not part._forward_hooks and "forward" not in vars(part)


def alone(layers: Sequence[Seen], leaves: Sequence[Tensor]) -> list[Seen]:
    """Layers whose parameters reach the leaves through their output only: no one else uses their weight.

    Args:
        layers: as seen in the forward pass.
        leaves: what the pass gave.
    """
    users: dict[Any, list[Any]] = {}
    todo: list[Any] = [leaf.grad_fn for leaf in leaves if leaf.grad_fn is not None]
    while todo:
        node = todo.pop()
        for used, _ in node.next_functions:
            if used is not None:
                if used not in users:
                    todo.append(used)
                users.setdefault(used, []).append(node)
    return [s for s in layers if all(_leads_to(s.edge.node, p, users) for p in s.learnt)]


def _leads_to(end: Any, parameter: Tensor, users: Mapping[Any, Sequence[Any]]) -> bool:
    """Whether the one way that a parameter has in the graph comes by a node."""
    node: Any = get_gradient_edge(parameter).node
    while node is not end:
        if len(users.get(node, ())) != 1:
            return False
        node = users[node][0]
    return True


class DualForm:
    """Gramian and weighted sums of T gradients on an encoder, without those on its linear layers.

    Task t's gradient on a layer's weight is D_tᵀ X, with the layer's inputs X, [m, in], and the gradients D_t
    at its output, [m, out]. So ⟨g_s, g_t⟩ = ⟨D_s, K D_t⟩ with K = X Xᵀ (+ 1 for the bias), and
    Σ w_t g_t = (Σ w_t D_t)ᵀ X: of T gradients of in x out entries none is formed. Parameters of other layers
    get their rows. Exact; cheaper where m < in.

    Args:
        asked: what the tasks ask of their one representation.
        parameters: the encoder's shared ones, by name.
        watch: of the forward pass.
    """

    def __init__(self, asked: Asked, parameters: Mapping[str, Tensor], watch: Watch) -> None:
        wanted = {id(p) for p in parameters.values()}
        self._layers = [s for s in alone(watch.worth_it(), asked.leaves) if id(s.layer.weight) in wanted]
        covered = {id(p): s for s in self._layers for p in s.layer.parameters() if id(p) in wanted}
        self._parameters, self._covered = list(parameters.values()), covered
        self._others = [p for p in self._parameters if id(p) not in covered]
        self._fill(asked)

    def _fill(self, asked: Asked) -> None:
        """Gradients at the layers' outputs, and rows of all other parameters, task by task."""
        tasks = len(asked.rows)
        like = asked.cotangents[0]
        self._outputs = [like.new_zeros(tasks, len(s.x), s.layer.out_features) for s in self._layers]
        self._rows = like.new_zeros(tasks, sum(p.numel() for p in self._others))
        inputs: list[Any] = [*(s.edge for s in self._layers), *self._others]
        for t in range(tasks):
            cotangents = [cotangent[t] for cotangent in asked.cotangents]
            gradients = torch.autograd.grad(
                asked.leaves, inputs, cotangents, retain_graph=True, allow_unused=True
            )
            self._take(t, gradients)

    def _take(self, t: int, gradients: Sequence[Tensor | None]) -> None:
        for output, gradient in zip(self._outputs, gradients, strict=False):
            if gradient is not None:
                output[t] = gradient.reshape(output.shape[1:])
        at = 0
        for p, gradient in zip(self._others, gradients[len(self._outputs) :], strict=True):
            if gradient is not None:
                self._rows[t, at : at + p.numel()] = gradient.reshape(-1)
            at += p.numel()

    def gramian(self) -> Tensor:
        """Inner products, [T, T], float64 on the CPU."""
        total = gramian(self._rows)
        for seen, d in zip(self._layers, self._outputs, strict=True):
            x = seen.x.to(d.dtype)
            kernel = x @ x.T
            if seen.layer.bias is not None and id(seen.layer.bias) in self._covered:
                kernel += 1
            total += (d.flatten(1) @ torch.matmul(kernel, d).flatten(1).T).to("cpu", torch.float64)
        return (total + total.T) / 2

    def combine(self, weights: Tensor) -> tuple[Tensor, ...]:
        """Weighted sum of the tasks' gradients, parameter by parameter."""
        found: dict[int, Tensor] = {}
        for seen, d in zip(self._layers, self._outputs, strict=True):
            summed = (weights.to(d) @ d.flatten(1)).view(d.shape[1:])
            found[id(seen.layer.weight)] = summed.T @ seen.x.to(d.dtype)
            if seen.layer.bias is not None:
                found[id(seen.layer.bias)] = summed.sum(0)
        vector, at = weights.to(self._rows) @ self._rows, 0
        for p in self._others:
            found[id(p)] = vector[at : at + p.numel()].view_as(p)
            at += p.numel()
        return tuple(found[id(p)].to(p.dtype) for p in self._parameters)

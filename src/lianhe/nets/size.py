"""How large a model is."""

from __future__ import annotations

from torch import nn


def parameter_count(*modules: nn.Module, frozen: bool = True) -> int:
    """Number of parameters of some modules; what several share is counted once.

    Args:
        modules: for example an encoder and all its heads.
        frozen: count those that are not trained, too.

    Example:
        >>> layer = nn.Linear(4, 3)
        >>> parameter_count(layer, nn.Sequential(layer, nn.Linear(3, 1)))
        19
    """
    parameters = {id(p): p for module in modules for p in module.parameters()}
    return sum(p.numel() for p in parameters.values() if frozen or p.requires_grad)

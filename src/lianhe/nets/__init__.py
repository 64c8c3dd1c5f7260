"""Networks that are ready to use as encoders and heads."""

from lianhe.nets.mlp import MLP

__all__ = ["MLP"]

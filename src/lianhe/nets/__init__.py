"""Networks that are ready to use as encoders and heads, and architectures that tasks share them in."""

from lianhe.nets.convnet import ConvNet, Pyramid
from lianhe.nets.mlp import MLP
from lianhe.nets.pick import Pick
from lianhe.nets.text import PerToken, TextEncoder

__all__ = ["MLP", "ConvNet", "PerToken", "Pick", "Pyramid", "TextEncoder"]

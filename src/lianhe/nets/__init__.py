"""Networks that are ready to use as encoders and heads, and architectures by which tasks share them."""

from lianhe.nets.cascade import Cascade
from lianhe.nets.cgc import CGC
from lianhe.nets.coarse import CoarseOf
from lianhe.nets.convnet import ConvNet, MeanPixel, Pyramid
from lianhe.nets.crossstitch import CrossStitch
from lianhe.nets.dselectk import DSelectK
from lianhe.nets.esmm import ESMM
from lianhe.nets.lora import Adapters, LoRA
from lianhe.nets.mlp import MLP
from lianhe.nets.mmoe import MMoE
from lianhe.nets.mtan import MTAN
from lianhe.nets.pick import Pick
from lianhe.nets.ple import PLE
from lianhe.nets.sharing import Sharing
from lianhe.nets.size import parameter_count
from lianhe.nets.stages import Stages, stages_of
from lianhe.nets.text import PerToken, TextEncoder

__all__ = [
    "CGC",
    "ESMM",
    "MLP",
    "MTAN",
    "PLE",
    "Adapters",
    "Cascade",
    "CoarseOf",
    "ConvNet",
    "CrossStitch",
    "DSelectK",
    "LoRA",
    "MMoE",
    "MeanPixel",
    "PerToken",
    "Pick",
    "Pyramid",
    "Sharing",
    "Stages",
    "TextEncoder",
    "parameter_count",
    "stages_of",
]

"""Which tasks help one another, and which only get in each other's way? Measured, with its doubts."""

from lianhe.experiment.evidence.grouping import Grouping, Network, best_grouping
from lianhe.experiment.evidence.higher_order import higher_order
from lianhe.experiment.evidence.losses import Losses, relative
from lianhe.experiment.evidence.surrogate import LinearSurrogate, linear_surrogate

__all__ = [
    "Grouping",
    "LinearSurrogate",
    "Losses",
    "Network",
    "best_grouping",
    "higher_order",
    "linear_surrogate",
    "relative",
]

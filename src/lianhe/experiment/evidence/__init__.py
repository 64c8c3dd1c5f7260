"""Which tasks help one another, and which only get in each other's way? Measured, with its doubts."""

from lianhe.experiment.evidence.advice import Advice
from lianhe.experiment.evidence.advise import advise
from lianhe.experiment.evidence.affinity import Affinity
from lianhe.experiment.evidence.conflict import ConflictReport
from lianhe.experiment.evidence.grouping import Grouping, Network, best_grouping
from lianhe.experiment.evidence.higher_order import higher_order
from lianhe.experiment.evidence.losses import Losses, relative
from lianhe.experiment.evidence.probed import Probed, measure_affinity
from lianhe.experiment.evidence.surrogate import LinearSurrogate, linear_surrogate
from lianhe.experiment.evidence.watched import Watched

__all__ = [
    "Advice",
    "Affinity",
    "ConflictReport",
    "Grouping",
    "LinearSurrogate",
    "Losses",
    "Network",
    "Probed",
    "Watched",
    "advise",
    "best_grouping",
    "higher_order",
    "linear_surrogate",
    "measure_affinity",
    "relative",
]

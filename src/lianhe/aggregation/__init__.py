"""How the rows of a round become one: one method, one file."""

from lianhe.aggregation.cagrad import CAGrad
from lianhe.aggregation.confident import Chosen, Confident
from lianhe.aggregation.fixed import Fixed
from lianhe.aggregation.greedysoup import GreedySoup
from lianhe.aggregation.heldoutweights import HeldOutWeights
from lianhe.aggregation.krum import Krum
from lianhe.aggregation.mean import Mean
from lianhe.aggregation.median import Median
from lianhe.aggregation.mgda import MGDA
from lianhe.aggregation.nashmtl import NashMTL
from lianhe.aggregation.pcgrad import PCGrad
from lianhe.aggregation.randomweights import RandomWeights
from lianhe.aggregation.sum import Sum
from lianhe.aggregation.trimmedmean import TrimmedMean
from lianhe.aggregation.upgrad import UPGrad
from lianhe.aggregation.vote import Vote
from lianhe.core.aggregator import Aggregator

#: aggregators that a file may name; those that are made of functions or tensors are missing
AGGREGATORS: dict[str, type[Aggregator]] = {
    "cagrad": CAGrad,
    "confident": Confident,
    "fixed": Fixed,
    "krum": Krum,
    "mean": Mean,
    "median": Median,
    "mgda": MGDA,
    "nashmtl": NashMTL,
    "pcgrad": PCGrad,
    "random": RandomWeights,
    "sum": Sum,
    "trimmedmean": TrimmedMean,
    "upgrad": UPGrad,
    "vote": Vote,
}

__all__ = [
    "AGGREGATORS",
    "MGDA",
    "CAGrad",
    "Chosen",
    "Confident",
    "Fixed",
    "GreedySoup",
    "HeldOutWeights",
    "Krum",
    "Mean",
    "Median",
    "NashMTL",
    "PCGrad",
    "RandomWeights",
    "Sum",
    "TrimmedMean",
    "UPGrad",
    "Vote",
]

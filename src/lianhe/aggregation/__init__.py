"""How the rows of a round become one: one method, one file."""

from lianhe.aggregation.cagrad import CAGrad
from lianhe.aggregation.confident import Chosen, Confident
from lianhe.aggregation.dbmtl import DBMTL
from lianhe.aggregation.dwa import DWA
from lianhe.aggregation.excessmtl import ExcessMTL
from lianhe.aggregation.famo import FAMO
from lianhe.aggregation.fixed import Fixed
from lianhe.aggregation.geometricmean import GeometricMean
from lianhe.aggregation.graddrop import GradDrop
from lianhe.aggregation.gradnorm import GradNorm
from lianhe.aggregation.greedysoup import GreedySoup
from lianhe.aggregation.heldoutweights import HeldOutWeights
from lianhe.aggregation.imtll import IMTLL
from lianhe.aggregation.krum import Krum
from lianhe.aggregation.mean import Mean
from lianhe.aggregation.median import Median
from lianhe.aggregation.mgda import MGDA
from lianhe.aggregation.moco import MoCo
from lianhe.aggregation.nashmtl import NashMTL
from lianhe.aggregation.pcgrad import PCGrad
from lianhe.aggregation.randomweights import RandomWeights
from lianhe.aggregation.scaleinvariant import ScaleInvariant
from lianhe.aggregation.stch import STCH
from lianhe.aggregation.sum import Sum
from lianhe.aggregation.trimmedmean import TrimmedMean
from lianhe.aggregation.uncertainty import Uncertainty
from lianhe.aggregation.upgrad import UPGrad
from lianhe.aggregation.vote import Vote
from lianhe.core.aggregator import Aggregator

#: aggregators that a file may name; those that are made of functions or tensors are missing
AGGREGATORS: dict[str, type[Aggregator]] = {
    "cagrad": CAGrad,
    "confident": Confident,
    "dbmtl": DBMTL,
    "dwa": DWA,
    "excessmtl": ExcessMTL,
    "famo": FAMO,
    "fixed": Fixed,
    "geometricmean": GeometricMean,
    "graddrop": GradDrop,
    "gradnorm": GradNorm,
    "imtll": IMTLL,
    "krum": Krum,
    "mean": Mean,
    "median": Median,
    "mgda": MGDA,
    "moco": MoCo,
    "nashmtl": NashMTL,
    "pcgrad": PCGrad,
    "random": RandomWeights,
    "scaleinvariant": ScaleInvariant,
    "stch": STCH,
    "sum": Sum,
    "trimmedmean": TrimmedMean,
    "uncertainty": Uncertainty,
    "upgrad": UPGrad,
    "vote": Vote,
}

__all__ = [
    "AGGREGATORS",
    "DBMTL",
    "DWA",
    "FAMO",
    "IMTLL",
    "MGDA",
    "STCH",
    "CAGrad",
    "Chosen",
    "Confident",
    "ExcessMTL",
    "Fixed",
    "GeometricMean",
    "GradDrop",
    "GradNorm",
    "GreedySoup",
    "HeldOutWeights",
    "Krum",
    "Mean",
    "Median",
    "MoCo",
    "NashMTL",
    "PCGrad",
    "RandomWeights",
    "ScaleInvariant",
    "Sum",
    "TrimmedMean",
    "UPGrad",
    "Uncertainty",
    "Vote",
]

"""lianhe (联合): training together. Tasks, views, sites and experts, in one loop; and does it help?"""

from lianhe import aggregation, core, datasets, engines, experiment, linalg, nets, participants, report
from lianhe.aggregation import (
    MGDA,
    CAGrad,
    Confident,
    Fixed,
    GreedySoup,
    HeldOutWeights,
    Krum,
    Mean,
    Median,
    NashMTL,
    PCGrad,
    RandomWeights,
    Sum,
    TrimmedMean,
    UPGrad,
    Vote,
)
from lianhe.core.aggregator import Aggregator, Elementwise, Weighting
from lianhe.core.engine import Engine, LoopEngine
from lianhe.core.errors import (
    AggregationError,
    CheckpointError,
    DataError,
    LianheError,
    MissingExtraError,
    NonFiniteError,
    SpecError,
    UnknownNameError,
)
from lianhe.core.result import Record, Result
from lianhe.core.schedule import Alternating, Sampled, Schedule, Together
from lianhe.core.spec import Spec
from lianhe.core.step import Add, Descend, Replace, Step
from lianhe.engines import SharedEngine
from lianhe.experiment.compare import compare
from lianhe.experiment.comparison import Comparison
from lianhe.experiment.fit import fit
from lianhe.experiment.fuse import Fusion, fuse, fuse_candidates
from lianhe.experiment.trial import Part, Trial
from lianhe.experiment.views import ViewTrials
from lianhe.participants import Committee, Expert, FedProx, HardSharing, Local, Site, Task, View

__version__ = "0.1.0"

__all__ = [
    "MGDA",
    "Add",
    "AggregationError",
    "Aggregator",
    "Alternating",
    "CAGrad",
    "CheckpointError",
    "Committee",
    "Comparison",
    "Confident",
    "DataError",
    "Descend",
    "Elementwise",
    "Engine",
    "Expert",
    "FedProx",
    "Fixed",
    "Fusion",
    "GreedySoup",
    "HardSharing",
    "HeldOutWeights",
    "Krum",
    "LianheError",
    "Local",
    "LoopEngine",
    "Mean",
    "Median",
    "MissingExtraError",
    "NashMTL",
    "NonFiniteError",
    "PCGrad",
    "Part",
    "RandomWeights",
    "Record",
    "Replace",
    "Result",
    "Sampled",
    "Schedule",
    "SharedEngine",
    "Site",
    "Spec",
    "SpecError",
    "Step",
    "Sum",
    "Task",
    "Together",
    "Trial",
    "TrimmedMean",
    "UPGrad",
    "UnknownNameError",
    "View",
    "ViewTrials",
    "Vote",
    "Weighting",
    "aggregation",
    "compare",
    "core",
    "datasets",
    "engines",
    "experiment",
    "fit",
    "fuse",
    "fuse_candidates",
    "linalg",
    "nets",
    "participants",
    "report",
]

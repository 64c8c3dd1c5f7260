"""Task weights, learning rate and balancing method, by search and by heuristics."""

from lianhe.experiment.tuning.heuristics import by_difficulty, by_size
from lianhe.experiment.tuning.search import tune
from lianhe.experiment.tuning.tried import Tried
from lianhe.experiment.tuning.tuning import Tuning

__all__ = ["Tried", "Tuning", "by_difficulty", "by_size", "tune"]

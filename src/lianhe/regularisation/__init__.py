"""Regularisation: penalties of the joint, early stopping, augmented and adversarial inputs."""

from lianhe.regularisation.earlystopping import EarlyStopping
from lianhe.regularisation.l1 import L1
from lianhe.regularisation.taskrelations import TaskRelations

__all__ = ["L1", "EarlyStopping", "TaskRelations"]

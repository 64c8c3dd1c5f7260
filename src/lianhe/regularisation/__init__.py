"""Regularisation: penalties of the joint, early stopping, augmented and adversarial inputs."""

from lianhe.regularisation.earlystopping import EarlyStopping
from lianhe.regularisation.featuredropout import FeatureDropout
from lianhe.regularisation.fgsm import FGSM
from lianhe.regularisation.gaussiannoise import GaussianNoise
from lianhe.regularisation.l1 import L1
from lianhe.regularisation.pgd import PGD
from lianhe.regularisation.randomflip import RandomFlip
from lianhe.regularisation.randomshift import RandomShift
from lianhe.regularisation.taskrelations import TaskRelations
from lianhe.regularisation.worddropout import WordDropout

__all__ = [
    "FGSM",
    "L1",
    "PGD",
    "EarlyStopping",
    "FeatureDropout",
    "GaussianNoise",
    "RandomFlip",
    "RandomShift",
    "TaskRelations",
    "WordDropout",
]

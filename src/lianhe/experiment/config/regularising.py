"""What regularisation a specification file can name."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lianhe.core.errors import SpecError
from lianhe.core.penalty import Penalty
from lianhe.core.spec import Augment
from lianhe.core.streams import untouched_global_state
from lianhe.experiment.config.faults import wrong
from lianhe.experiment.config.named import Named, Registry, make
from lianhe.regularisation import (
    FGSM,
    L1,
    PGD,
    FeatureDropout,
    GaussianNoise,
    RandomFlip,
    RandomShift,
    TaskRelations,
    WordDropout,
)

PENALTIES: Registry = {"l1": L1, "taskrelations": TaskRelations}
ADVERSARIES: Registry = {"fgsm": FGSM, "pgd": PGD}
AUGMENTATIONS: Registry = {
    "featuredropout": FeatureDropout,
    "gaussiannoise": GaussianNoise,
    "randomflip": RandomFlip,
    "randomshift": RandomShift,
    "worddropout": WordDropout,
}


def make_penalties(named: Sequence[Named]) -> list[Penalty]:
    """Penalties of the joint."""
    return [make("penalty", PENALTIES, one) for one in named]


def make_augmentations(named: Sequence[Named], x: Tensor) -> list[Augment]:
    """Augmentations, tried on a few rows.

    Raises:
        FaultsError: if one is for inputs of another form.
    """
    augmentations: list[Augment] = [make("augmentation", AUGMENTATIONS, one) for one in named]
    with untouched_global_state():
        for i, augment in enumerate(augmentations):
            try:
                augment(x[:2])
            except SpecError as error:
                raise wrong(("training", "augment", i), str(error)) from error
    return augmentations

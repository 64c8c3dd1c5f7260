"""What a specification file becomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lianhe.core.spec import Spec
from lianhe.experiment.config.kinds import AnyFile
from lianhe.experiment.config.prepare import Prepare


@dataclass(frozen=True, eq=False)
class Built:
    """A specification, and what belongs to it.

    Args:
        file: what the file says, with what the data have added to it.
        spec: to be fitted: on training rows, prepared.
        test: held-out rows of the form that `Result.evaluate` takes; None where none are held out.
        whole: the same on all rows, none held out and none prepared, for a comparison to divide seed by seed.
        prepare: how rows are prepared, if they are.
    """

    file: AnyFile
    spec: Spec
    test: Any
    whole: Spec
    prepare: Prepare | None

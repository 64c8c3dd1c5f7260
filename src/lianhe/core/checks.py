"""Numbers that a user gives, and how the wrong ones are refused."""

from __future__ import annotations

import math
from numbers import Integral, Real

from lianhe.core.errors import SpecError


def require_whole(argument: str, value: object, least: int) -> None:
    """Raise SpecError if `value` is not a whole number of at least `least`; True and False are no numbers."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise SpecError(f"{argument}={value!r}: must be a whole number of at least {least}")


def require_positive(argument: str, value: object) -> None:
    """Raise SpecError if `value` is not a positive finite number."""
    if not _is_finite(value) or not value > 0:  # type: ignore[operator]  # a number by now
        raise SpecError(f"{argument}={value!r}: must be a positive finite number")


def require_not_negative(argument: str, value: object) -> None:
    """Raise SpecError if `value` is not a finite number of at least 0."""
    if not _is_finite(value) or not value >= 0:  # type: ignore[operator]  # a number by now
        raise SpecError(f"{argument}={value!r}: must be a finite number that is not negative")


def _is_finite(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)

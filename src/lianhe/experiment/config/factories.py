"""Models that the user's own, installed code makes: named as "package.module:name"."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from lianhe.core.errors import SpecError
from lianhe.experiment.config.faults import unknown

_FORM = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def find_factory(reference: str) -> Callable[..., Any]:
    """Find what "package.module:name" names.

    A file can name only code that is installed, and it is called with sizes alone: a specification from
    somebody else can be wrong, but it brings no code and no arguments of its own.

    Raises:
        SpecError: if the text has another form, the module cannot be imported, or it has no such name.
    """
    if not _FORM.fullmatch(reference):
        raise SpecError('must be of the form "package.module:name"')
    module_name, _, name = reference.partition(":")
    found = _import(module_name)
    for part in name.split("."):
        if not hasattr(found, part):
            valid = [n for n in dir(found) if not n.startswith("_") and callable(getattr(found, n))]
            raise SpecError(unknown(f"name in {module_name}", part, valid))
        found = getattr(found, part)
    if not callable(found):
        raise SpecError(f"is of type {type(found).__name__}: expected a function that makes a torch module")
    factory: Callable[..., Any] = found
    return factory


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise SpecError(f"there is no installed module {error.name}: pip install what has it") from error
    except Exception as error:
        raise SpecError(f"module {name} cannot be imported: {type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Made:
    """A function that makes a model, as `Spec` wants it: called without arguments.

    Args:
        reference: "package.module:name".
        sizes: what it is called with: `inputs`, and `outputs` where they are known.
    """

    reference: str
    sizes: Mapping[str, Any]

    def __call__(self) -> nn.Module:
        """Call the factory."""
        factory = find_factory(self.reference)
        try:
            model = factory(**self.sizes)
        except Exception as error:
            raise SpecError(f"{self} failed: {type(error).__name__}: {error}") from error
        if not isinstance(model, nn.Module):
            raise SpecError(f"{self} gave a {type(model).__name__}: expected a torch module")
        return model

    def __str__(self) -> str:
        return f"{self.reference}({', '.join(f'{name}={size}' for name, size in self.sizes.items())})"

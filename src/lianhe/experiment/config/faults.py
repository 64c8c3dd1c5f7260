"""What is wrong with a specification file, key by key, and how it is said: a line for each fault."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple, TypeAlias

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from lianhe.core.errors import SpecError
from lianhe.experiment.config.locate import KeyPath


class Where(NamedTuple):
    """Where a key was given.

    Args:
        line: of the file; 0 where there is none.
        text: such as "spec.toml:12", or "--seed" for what the command line adds.
    """

    line: int
    text: str


#: where the key at a path was given
Place: TypeAlias = Callable[[KeyPath], Where]

#: what is said instead of pydantic's own words; `{…}` are the limits that pydantic names
_TEXTS: Mapping[str, str] = {
    "missing": "is missing: {hint}",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be a text in quotes",
    "bool_type": "must be true or false",
    "list_type": "must be a list, [ … ]",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "finite_number": "must be finite",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "too_short": "must hold at least {min_length}",
    "string_too_short": "must not be empty",
}

#: words of other libraries for what has another name here
_SYNONYMS: Mapping[str, str] = {
    "learning_rate": "lr",
    "mu": "proximal",
    "file": "path",
    "dataset": "load",
    "test_size": "test",
    "gradient_clip": "clip_norm",
    "scheduler": "lr_schedule",
    "layers": "hidden",
    "num_classes": "classes",
}

_LONGEST = 60


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    Args:
        at: path of the key.
        message: what is wrong, and the way out.
    """

    at: KeyPath
    message: str

    def below(self, at: KeyPath) -> Fault:
        """The same, `at` being the path of the table that it was found in."""
        return Fault((*at, *self.at), self.message)


class FaultsError(SpecError):
    """Faults on their way to whoever knows the file and its lines."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        """Take at least one fault."""
        self.faults = tuple(faults)
        super().__init__("\n".join(f"{dotted(fault.at)}: {fault.message}" for fault in self.faults))


def wrong(at: KeyPath, message: str) -> FaultsError:
    """One fault, to be raised."""
    return FaultsError([Fault(at, message)])


def require(faults: Iterable[Fault]) -> None:
    """Raise FaultsError if there is any fault."""
    found = tuple(faults)
    if found:
        raise FaultsError(found)


def dotted(path: KeyPath) -> str:
    """Write a path as in "tasks[1].loss"."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def unknown(what: str, name: object, valid: Iterable[str]) -> str:
    """Say that a name is not among the valid ones, and which one was probably meant.

    Example:
        >>> unknown("key", "rouns", ["lr", "rounds"])
        'unknown key, did you mean "rounds"? valid: lr, rounds'
    """
    names = {valid_name.lower(): valid_name for valid_name in sorted(valid)}
    given = str(name).lower()
    close = [_SYNONYMS.get(given, ""), *get_close_matches(given, names, n=1, cutoff=0.5)]
    nearest = next((names[candidate] for candidate in close if candidate in names), "")
    hint = f", did you mean {json.dumps(nearest)}?" if nearest else ";"
    return f"unknown {what}{hint} valid: {', '.join(names.values()) or 'none'}"


def message(faults: Iterable[Fault], document: Mapping[str, Any], place: Place) -> str:
    """One line for each fault, from top to bottom of the file: place, key, value, what is wrong."""
    placed = sorted(((place(fault.at), fault) for fault in faults), key=lambda pair: pair[0].line)
    return "\n".join(f"{where.text}: {_told(fault, document)}" for where, fault in placed)


def _told(fault: Fault, document: Mapping[str, Any]) -> str:
    value = _at(document, fault.at)
    given = "" if value is None or isinstance(value, dict) else f" = {_written(value)}"
    return f"{dotted(fault.at)}{given}: {fault.message}"


def faults_of(
    error: ValidationError, hints: Mapping[KeyPath, str], unknown_key: Callable[[KeyPath], str]
) -> list[Fault]:
    """Translate what pydantic found.

    Args:
        error: of a whole document.
        hints: what to write where a key is missing, by path without list indices.
        unknown_key: what to say of a key that its table does not have.
    """
    found: list[Fault] = []
    for detail in error.errors(include_url=False):
        at = tuple(detail["loc"])
        inner = detail.get("ctx", {}).get("error")
        if isinstance(inner, FaultsError):
            found += [fault.below(at) for fault in inner.faults]
        elif detail["type"] == "extra_forbidden":
            found.append(Fault(at, unknown_key(at)))
        else:
            found.append(Fault(at, _text(detail, hints.get(without_indices(at), "give a value"))))
    return found


def without_indices(path: KeyPath) -> KeyPath:
    """Path in the schema, where all elements of a list are alike."""
    return tuple(part for part in path if isinstance(part, str))


def _text(detail: ErrorDetails, hint: str) -> str:
    context = detail.get("ctx", {})
    if "error" in context:
        return str(context["error"])
    template = _TEXTS.get(detail["type"])
    return detail["msg"] if template is None else template.format(hint=hint, **context)


def _at(document: Any, path: KeyPath) -> Any:
    for part in path:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def _written(value: Any) -> str:
    """A value about as it stands in the file; long ones are cut."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"

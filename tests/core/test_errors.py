"""One tree of errors, each of which says what is wrong."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re

import pytest

import lianhe
from lianhe.core import errors
from lianhe.core.errors import LianheError, MissingExtraError, SpecError, UnknownNameError

OURS = [e for _, e in inspect.getmembers(errors, inspect.isclass) if issubclass(e, Exception)]


def test_every_error_derives_from_one_and_is_in_the_tree_on_top_of_the_file():
    assert len(OURS) >= 8
    for error in OURS:
        assert issubclass(error, LianheError)
        assert re.search(rf"\b{error.__name__}\b", errors.__doc__)


def test_the_tree_says_what_else_an_error_is():
    for line in errors.__doc__.splitlines():
        if match := re.search(r"(\w+Error) .*\(also an? (\w+)\)", line):
            also = getattr(__import__("builtins"), match[2])
            assert issubclass(getattr(errors, match[1]), also)


@pytest.mark.parametrize("package", ["core", "participants", "engines"])
def test_no_module_defines_an_error_outside_the_tree(package):
    root = importlib.import_module(f"lianhe.{package}")
    for info in pkgutil.walk_packages(root.__path__, f"lianhe.{package}."):
        module = importlib.import_module(info.name)
        for _, thing in inspect.getmembers(module, inspect.isclass):
            if issubclass(thing, Exception) and thing.__module__.startswith("lianhe"):
                assert thing.__module__ == errors.__name__


def test_an_unknown_name_is_answered_with_the_nearest_and_with_all():
    error = UnknownNameError("metric", "AUROK", ["auroc", "accuracy"])
    assert str(error) == "unknown metric 'AUROK': did you mean 'auroc'? valid are accuracy, auroc"
    assert (error.name, error.nearest, error.valid) == ("AUROK", "auroc", ("accuracy", "auroc"))
    assert isinstance(error, SpecError)
    far = UnknownNameError("metric", "zzz", ["auroc"])
    assert far.nearest is None
    assert str(far) == "unknown metric 'zzz': valid are auroc"
    assert str(UnknownNameError("metric", "a", [])).endswith("valid are none")


def test_a_missing_extra_says_how_to_get_it():
    error = MissingExtraError("matplotlib", "report", "the report's figures")
    assert str(error) == "the report's figures needs matplotlib: pip install 'lianhe[report]'"
    assert isinstance(error, ImportError)


def test_the_root_catches_nothing_else():
    assert not issubclass(ValueError, LianheError)
    assert LianheError.__mro__[1] is Exception
    assert lianhe.__doc__

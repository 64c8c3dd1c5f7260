"""The Taskonomy results: every set of five tasks once."""

import pytest

from lianhe.core.errors import UnknownNameError
from lianhe.datasets import load_taskonomy_results


@pytest.mark.parametrize("edition", ["large_test", "test"])
def test_each_of_the_31_sets_is_there_with_the_losses_of_its_tasks(edition: str) -> None:
    losses = load_taskonomy_results(edition)  # type: ignore[arg-type]
    assert len(losses) == 31
    assert all(set(of) == tasks and all(loss > 0 for loss in of.values()) for tasks, of in losses.items())


def test_an_unknown_edition_is_named() -> None:
    with pytest.raises(UnknownNameError, match="large_test"):
        load_taskonomy_results("large")  # type: ignore[arg-type]

"""For the tests in tests/ and the examples in src/ alike."""

from __future__ import annotations

import pytest
import torch


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow tests last, so that a mistake that a fast one finds is seen early."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(autouse=True)
def same_first_weights(request: pytest.FixtureRequest) -> None:
    """Modules in examples of docstrings have the same first weights whichever test ran before."""
    if isinstance(request.node, pytest.DoctestItem):
        torch.manual_seed(0)

"""For the tests in tests/ and the examples in src/ alike."""

from __future__ import annotations

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow tests last, so that a mistake that a fast one finds is seen early."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)

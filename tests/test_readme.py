"""What the READMEs show is executed, and what they say in two languages is the same code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.slow
def test_the_readme_runs_from_top_to_bottom() -> None:
    code = "\n".join(blocks("README.md"))
    assert "lh.fit" in code
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102  it is our own
    assert str(names["comparison"].answer()).startswith("against solo")  # type: ignore[attr-defined]


def test_both_languages_show_the_same_code() -> None:
    assert blocks("README.md") == blocks("README.zh.md")

import pytest

from lianhe.core.errors import SpecError
from lianhe.report import Series, Table


def test_table_refuses_a_row_of_another_width():
    with pytest.raises(SpecError, match=r"rows\[1\] of table 'Price' has 1 cells, its columns are 2"):
        Table(("a", "b"), (("x", 1.0), ("y",)), caption="Price")


def test_series_refuses_other_lengths():
    with pytest.raises(SpecError, match=r"series 'joint': .* \(2, 1, 0, 0\)"):
        Series("joint", (0, 1), (0.5,))
    with pytest.raises(SpecError, match="series 'joint'"):
        Series("joint", (0, 1), (0.5, 0.6), lows=(0.4, 0.5))

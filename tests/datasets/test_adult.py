"""Adult: two tasks, and no column that gives the second away."""

import pytest
import torch

from lianhe.datasets import Dataset, load_adult


@pytest.fixture(scope="module")
def adult() -> Dataset:
    return load_adult()


def test_shape_and_types(adult: Dataset) -> None:
    assert adult.x.dtype == torch.float32
    assert adult.x.shape == (48_842, 95) == (len(adult), len(adult.features))
    assert adult.x.isfinite().all()
    assert all(y.dtype == torch.int64 and set(y.tolist()) == {0, 1} for y in adult.y.values())


def test_base_rates(adult: Dataset) -> None:
    assert {task: int(y.sum()) for task, y in adult.y.items()} == {"income": 11_687, "never_married": 16_117}


@pytest.mark.parametrize(
    ("name", "count"),
    [("workclass=Private", 33_906), ("occupation=Prof-specialty", 6_172), ("race=White", 41_762),
     ("gender=Male", 32_650), ("native_country=Holand-Netherlands", 1), ("native_country=?", 857)],
)  # fmt: skip
def test_codes_carry_the_names_of_the_source(adult: Dataset, name: str, count: int) -> None:
    assert int(adult.x[:, adult.features.index(name)].sum()) == count


def test_levels_of_education_match_the_number_of_education(adult: Dataset) -> None:
    years = adult.x[:, adult.features.index("educational_num")]
    masters = adult.x[:, adult.features.index("education=Masters")] == 1
    assert set(years[masters].tolist()) == {14.0}


def test_one_value_of_each_category(adult: Dataset) -> None:
    assert bool((adult.x[:, 6:].sum(1) == 6).all())


def test_capital_is_logarithmic(adult: Dataset) -> None:
    gain = adult.x[:, adult.features.index("capital_gain")]
    assert gain.min() == 0
    assert gain.max().expm1().item() == pytest.approx(99_999, rel=1e-5)


def test_the_second_target_is_not_given_away(adult: Dataset) -> None:
    assert not any("marital" in name or "relationship" in name for name in adult.features)

"""Heart disease: the counts of the source, and what is missing stays missing."""

import pytest
import torch

from lianhe.datasets import Dataset, load_heart


@pytest.fixture(scope="module")
def sites() -> dict[str, Dataset]:
    return load_heart()


def column(data: Dataset, name: str) -> torch.Tensor:
    return data.x[:, data.features.index(name)]


def test_patients_by_hospital(sites: dict[str, Dataset]) -> None:
    counts = {site: len(data) for site, data in sites.items()}
    assert counts == {"cleveland": 304, "hungary": 293, "switzerland": 123, "va": 200}


def test_all_hospitals_have_the_same_columns_and_targets(sites: dict[str, Dataset]) -> None:
    for site, data in sites.items():
        assert data.x.dtype == torch.float32
        assert data.x.shape == (len(data), 21)
        assert data.features == sites["va"].features
        assert {task: y.dtype for task, y in data.y.items()} == {
            "disease": torch.int64,
            "severity": torch.float32,
            "max_heart_rate": torch.float32,
        }
        assert (data.name, data.licence) == (f"heart/{site}", "CC BY 4.0")


def test_no_target_is_among_the_columns(sites: dict[str, Dataset]) -> None:
    columns = {name.split("=")[0] for name in sites["va"].features}
    assert not columns & {"thalch", "num", "id", "dataset"}


def test_disease_counts(sites: dict[str, Dataset]) -> None:
    sick = {site: int(data.y["disease"].sum()) for site, data in sites.items()}
    assert sick == {"cleveland": 139, "hungary": 106, "switzerland": 115, "va": 149}


def test_zero_cholesterol_and_blood_pressure_are_missing(sites: dict[str, Dataset]) -> None:
    cholesterol = {site: int(column(data, "chol").isnan().sum()) for site, data in sites.items()}
    assert cholesterol == {"cleveland": 0, "hungary": 23, "switzerland": 123, "va": 49 + 7}
    assert int(column(sites["va"], "trestbps").isnan().sum()) == 56 + 1
    assert not any(
        (column(data, name) == 0).any() for data in sites.values() for name in ("chol", "trestbps")
    )


def test_zero_elsewhere_is_a_value(sites: dict[str, Dataset]) -> None:
    assert sum(int((column(data, "oldpeak") == 0).sum()) for data in sites.values()) == 370
    assert sum(int((column(data, "ca") == 0).sum()) for data in sites.values()) == 181


@pytest.mark.parametrize("name", ["cp", "restecg", "slope", "thal"])
def test_one_value_of_each_category_or_none(sites: dict[str, Dataset], name: str) -> None:
    columns = [j for j, feature in enumerate(sites["va"].features) if feature.startswith(f"{name}=")]
    for data in sites.values():
        part = data.x[:, columns]
        missing = part.isnan().any(1)
        assert bool((part.isnan().all(1) == missing).all())
        assert bool((part[~missing].sum(1) == 1).all())


def test_severity_agrees_with_disease_where_graded(sites: dict[str, Dataset]) -> None:
    for site in ("cleveland", "switzerland", "va"):
        y = sites[site].y
        assert bool(((y["severity"] > 0).long() == y["disease"]).all())
        assert set(y["severity"].tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0}
    assert bool(sites["hungary"].y["severity"].isnan().all())


def test_heart_rate_is_missing_where_not_recorded(sites: dict[str, Dataset]) -> None:
    missing = {site: int(data.y["max_heart_rate"].isnan().sum()) for site, data in sites.items()}
    assert missing == {"cleveland": 0, "hungary": 1, "switzerland": 1, "va": 53}

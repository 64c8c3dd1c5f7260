"""The value that loaders return: rows that agree, parts that do not overlap."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lianhe.core.errors import DataError
from lianhe.datasets import MISSING_CLASS, Dataset

ROWS = 20


@pytest.fixture
def data() -> Dataset:
    kind = torch.tensor([0] * 12 + [1] * 5 + [MISSING_CLASS] * 3)
    amount = torch.arange(float(ROWS))
    return Dataset(
        torch.arange(ROWS * 2.0).view(ROWS, 2), {"kind": kind, "amount": amount}, ("a", "b"), "toy"
    )


def test_length_and_text(data: Dataset) -> None:
    assert len(data) == ROWS
    assert repr(data) == "Dataset('toy', rows=20, x=[2], y={kind: int64, amount: float32})"


def test_the_mappings_given_stay_the_callers() -> None:
    y = {"a": torch.zeros(2)}
    views = {"v": torch.zeros(2, 1)}
    data = Dataset(views, y)
    y.clear()
    views.clear()
    assert list(data.y) == ["a"]
    assert len(data) == 2


def test_can_be_copied(data: Dataset) -> None:
    assert torch.equal(copy.deepcopy(data).x, data.x)


def test_take_keeps_order_and_repeats(data: Dataset) -> None:
    taken = data.take(torch.tensor([3, 0, 3]))
    assert taken.y["amount"].tolist() == [3, 0, 3]
    assert taken.x[:, 0].tolist() == [6, 0, 6]
    assert (taken.features, taken.name) == (data.features, data.name)


def test_take_nothing(data: Dataset) -> None:
    assert len(data.take([])) == 0


@pytest.mark.parametrize("indices", [[20], [-1], torch.tensor([[0]]), torch.tensor([0.5]), [True, False]])
def test_take_refuses(data: Dataset, indices: list[int] | torch.Tensor) -> None:
    with pytest.raises(DataError, match="indices"):
        data.take(indices)


@given(test=st.floats(0.03, 0.97), seed=st.integers(0, 1000), stratify=st.sampled_from([None, "kind"]))
@settings(deadline=None)
def test_split_is_disjoint_complete_and_deterministic(test: float, seed: int, stratify: str | None) -> None:
    rows = torch.arange(float(ROWS))
    data = Dataset(rows[:, None], {"kind": torch.arange(ROWS) % 3, "row": rows})
    train, held_out = data.split(test, seed, stratify)
    again, _ = data.split(test, seed, stratify)
    assert sorted(train.y["row"].tolist() + held_out.y["row"].tolist()) == rows.tolist()
    assert len(held_out) == round(test * ROWS)
    assert torch.equal(train.x, again.x)


def test_split_depends_on_the_seed(data: Dataset) -> None:
    firsts = {tuple(data.split(0.5, seed)[1].y["amount"].tolist()) for seed in range(5)}
    assert len(firsts) == 5


@given(sizes=st.lists(st.integers(3, 9), min_size=2, max_size=4), test=st.floats(0.2, 0.8))
@settings(deadline=None)
def test_stratified_split_gives_each_class_its_share(sizes: list[int], test: float) -> None:
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    _, held_out = Dataset(labels[:, None], {"kind": labels}).split(test, 0, stratify="kind")
    share = len(held_out) / len(labels)
    for label, size in enumerate(sizes):
        assert abs(int((held_out.y["kind"] == label).sum()) - share * size) < 1


def test_rows_without_label_are_a_stratum_of_their_own() -> None:
    labels = torch.tensor([0] * 10 + [MISSING_CLASS] * 10)
    _, held_out = Dataset(labels[:, None], {"kind": labels}).split(0.4, 0, stratify="kind")
    assert held_out.y["kind"].tolist() == [0] * 4 + [MISSING_CLASS] * 4


@pytest.mark.parametrize("test", [0, 1, 0.001, 0.999, -0.5, 20, float("nan")])
def test_split_refuses_an_empty_part(data: Dataset, test: float) -> None:
    with pytest.raises(DataError, match="leaves a part empty"):
        data.split(test, seed=0)


@pytest.mark.parametrize(("task", "says"), [("amount", "holds no classes"), ("what", "is not a target")])
def test_split_refuses_other_strata(data: Dataset, task: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        data.split(0.5, seed=0, stratify=task)


def test_refuses_rows_that_disagree() -> None:
    with pytest.raises(DataError, match=r"disagree on the number of rows: \{'x': 3, \"y\['a'\]\": 2\}"):
        Dataset(torch.zeros(3, 1), {"a": torch.zeros(2)})
    with pytest.raises(DataError, match="disagree"):
        Dataset({"u": torch.zeros(3, 1), "v": torch.zeros(4, 1)}, {})


def test_refuses_no_view_and_single_numbers() -> None:
    with pytest.raises(DataError, match="holds no view"):
        Dataset({}, {})
    with pytest.raises(DataError, match="single number"):
        Dataset(torch.tensor(1.0), {})


@pytest.mark.parametrize("kind", [torch.int32, torch.bool])
def test_refuses_targets_of_another_type(kind: torch.dtype) -> None:
    with pytest.raises(DataError, match=r"use \.long\(\) for classes"):
        Dataset(torch.zeros(3, 1), {"a": torch.zeros(3, dtype=kind)})


@pytest.mark.parametrize("x", [torch.zeros(3, 2), torch.zeros(3, 1, 8, 8)])
def test_refuses_names_that_do_not_fit(x: torch.Tensor) -> None:
    with pytest.raises(DataError, match="names 1 columns"):
        Dataset(x, {}, features=("a",))

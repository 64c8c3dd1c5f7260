"""Partitioners: every row at exactly one site, the same seed the same answer."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lianhe.core.errors import DataError
from lianhe.datasets import IID, ByColumn, Dataset, Dirichlet, Partitioner

SEEDS = st.integers(0, 10_000)
LABELS = torch.arange(200) % 5


def check(partitioner: Partitioner, data: Dataset | torch.Tensor, seed: int) -> dict[str, torch.Tensor]:
    parts, again = partitioner(data, seed), partitioner(data, seed)
    assert torch.cat(list(parts.values())).sort().values.tolist() == list(range(len(data)))
    assert all(rows.dtype == torch.int64 and torch.equal(rows, rows.sort().values) for rows in parts.values())
    assert list(parts) == list(again)
    assert all(torch.equal(parts[site], again[site]) for site in parts)
    return parts


@given(rows=st.integers(1, 60), sites=st.integers(1, 8), seed=SEEDS)
@settings(deadline=None)
def test_iid(rows: int, sites: int, seed: int) -> None:
    data = torch.zeros(max(rows, sites), 2)
    sizes = [len(part) for part in check(IID(sites), data, seed).values()]
    assert len(sizes) == sites
    assert max(sizes) - min(sizes) <= 1


@given(alpha=st.floats(0.05, 100), sites=st.integers(1, 6), min_rows=st.integers(1, 3), seed=SEEDS)
@settings(deadline=None)
def test_dirichlet(alpha: float, sites: int, min_rows: int, seed: int) -> None:
    parts = check(Dirichlet(alpha, sites, min_rows=min_rows), LABELS, seed)
    assert len(parts) == sites
    assert all(len(rows) >= min_rows for rows in parts.values())


@given(values=st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=30), seed=SEEDS)
@settings(deadline=None)
def test_by_column(values: list[str], seed: int) -> None:
    parts = check(ByColumn(values), torch.zeros(len(values)), seed)
    assert list(parts) == list(dict.fromkeys(values))
    assert all(values[row] == site for site, rows in parts.items() for row in rows.tolist())


def test_alpha_decides_how_much_sites_differ() -> None:
    def spread(alpha: float) -> float:
        parts = Dirichlet(alpha, 4)(LABELS, seed=0)
        shares = torch.stack([LABELS[rows].bincount(minlength=5) / 40 for rows in parts.values()])
        return shares.std(0).mean().item()

    assert spread(1e4) < 0.05 < spread(1) < spread(0.1)


def test_shares_follow_the_dirichlet_distribution() -> None:
    labels = torch.zeros(1000, dtype=torch.int64)
    shares = [len(Dirichlet(2.0, ["a", "b", "c"])(labels, seed)["a"]) / 1000 for seed in range(400)]
    assert torch.tensor(shares).mean().item() == pytest.approx(1 / 3, abs=0.03)
    assert torch.tensor(shares).var().item() == pytest.approx((1 / 3) * (2 / 3) / 7, rel=0.2)


def test_seeds_and_purposes_are_separate_draws() -> None:
    data = torch.zeros(100)
    assert not torch.equal(IID(2)(data, 0)["site0"], IID(2)(data, 1)["site0"])


def test_by_names_a_target_and_missing_labels_land_somewhere() -> None:
    labels = torch.tensor([0, 1, -100] * 20)
    parts = check(Dirichlet(1.0, ["n", "s"], by="kind"), Dataset(torch.zeros(60, 1), {"kind": labels}), 0)
    assert list(parts) == ["n", "s"]


def test_sites_of_a_tensor_are_named_by_its_values() -> None:
    assert list(ByColumn(torch.tensor([3, 1, 3]))(torch.zeros(3))) == ["3", "1"]


@pytest.mark.parametrize("sites", [0, -1, [], "north", ["a", "a"]])
@pytest.mark.parametrize("make", [IID, lambda sites: Dirichlet(1.0, sites)])
def test_refuses_sites(make: type[IID], sites: int | Sequence[str]) -> None:
    with pytest.raises(DataError, match="sites="):
        make(sites)


@pytest.mark.parametrize("partitioner", [IID(4), Dirichlet(1.0, 4), Dirichlet(1.0, 2, min_rows=2)])
def test_refuses_fewer_rows_than_sites_need(partitioner: Partitioner) -> None:
    with pytest.raises(DataError, match="3 rows are too few for sites="):
        partitioner(torch.zeros(3, dtype=torch.int64), 0)


@pytest.mark.parametrize("alpha", [0, -1, float("nan"), float("inf")])
def test_refuses_alpha(alpha: float) -> None:
    with pytest.raises(DataError, match="alpha="):
        Dirichlet(alpha, 2)


def test_refuses_sites_without_rows() -> None:
    with pytest.raises(DataError, match="min_rows=0"):
        Dirichlet(1.0, 2, min_rows=0)


def test_gives_up_after_its_draws() -> None:
    with pytest.raises(DataError, match=r"alpha=0.001 .* raise alpha or take fewer sites"):
        Dirichlet(0.001, 5, min_rows=10)(torch.zeros(100, dtype=torch.int64), 0)


def test_dirichlet_refuses_what_holds_no_classes() -> None:
    data = Dataset(torch.zeros(4, 1), {"age": torch.zeros(4)})
    with pytest.raises(DataError, match="by='age' holds no classes"):
        Dirichlet(1.0, 2, by="age")(data, 0)
    with pytest.raises(DataError, match=r"by='' is not a target: choose one of \['age'\]"):
        Dirichlet(1.0, 2)(data, 0)
    with pytest.raises(DataError, match="give int64 labels"):
        Dirichlet(1.0, 2)(torch.zeros(4, 1), 0)


@pytest.mark.parametrize(
    ("values", "says"),
    [(["a", None], "row 1 has no value"), ([float("nan")], "row 0"), ([], "no row"),
     ([1, "1"], "read the same"), (torch.zeros(2, 2), "one value a row")],
)  # fmt: skip
def test_by_column_refuses(values: list[object], says: str) -> None:
    with pytest.raises(DataError, match=says):
        ByColumn(values)


def test_by_column_refuses_another_number_of_rows() -> None:
    with pytest.raises(DataError, match="values has 2 entries, data 3 rows"):
        ByColumn(["a", "b"])(torch.zeros(3))

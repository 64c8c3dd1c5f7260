"""Standardising from sums that add equals standardising the pooled rows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lianhe.core.errors import DataError
from lianhe.datasets import Dataset, Moments, Standardize, load_adult, load_heart, load_mfeat

NAN = float("nan")


def table(rows: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 4, generator=generator, dtype=torch.float64) + torch.tensor([0, 3, -9, 50])
    x = x * torch.tensor([1, 10, 1e5, 1e-3])
    return x.where(torch.rand(x.shape, generator=generator) > 0.3, NAN)


@given(sizes=st.lists(st.integers(0, 12), min_size=1, max_size=5), seed=st.integers(0, 99))
@settings(deadline=None)
def test_summed_equals_pooled(sizes: list[int], seed: int) -> None:
    sites = [table(rows, seed + number) for number, rows in enumerate(sizes)]
    pooled = torch.cat(sites)
    summed, at_once = Standardize().fit(*sites), Standardize().fit(pooled)
    torch.testing.assert_close(summed(pooled), at_once(pooled), rtol=1e-9, atol=1e-9)
    assert summed.scales[""].indicators == at_once.scales[""].indicators


def test_measure_then_finish_equals_fit() -> None:
    sites, prepare = [table(9, 0), table(5, 1)], Standardize()
    finished = prepare.finish(*map(prepare.measure, sites))
    assert torch.equal(finished(sites[0]), prepare.fit(*sites)(sites[0]))


def test_moments_are_those_of_the_observed_entries() -> None:
    x = table(50, 0)
    moments = Moments.of(x)
    for j in range(4):
        observed = x[:, j][~x[:, j].isnan()]
        assert moments.mean[j].item() == pytest.approx(observed.mean().item(), rel=1e-12)
        assert moments.std[j].item() == pytest.approx(observed.std(correction=0).item(), rel=1e-9)


def test_digits_kept_of_a_column_far_from_zero() -> None:
    x = table(1000, 0)[:, :1] + 1e4
    observed = x[~x.isnan()]
    assert Moments.of(x).std.item() == pytest.approx(observed.std(correction=0).item(), rel=1e-7)


def test_prepared_columns_have_mean_0_and_std_1() -> None:
    x = load_adult().x
    prepared = Standardize().fit(x)(x).double()
    torch.testing.assert_close(prepared.mean(0), torch.zeros(95).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(prepared.std(0, correction=0), torch.ones(95).double(), atol=1e-4, rtol=0)


def test_hospitals_get_the_same_columns_and_no_nan() -> None:
    sites = {site: data.split(0.3, seed=0, stratify="disease") for site, data in load_heart().items()}
    prepare = Standardize().fit(*(train.x for train, _ in sites.values()))
    for parts in sites.values():
        for data in map(prepare.apply, parts):
            assert data.x.isfinite().all()
            assert data.x.dtype == torch.float32
            assert data.x.shape[1] == len(data.features) == 21 + len(prepare.scales[""].indicators)
    assert "missing:chol" in data.features
    assert "missing:age" not in data.features


def test_indicator_says_what_is_missing_though_another_site_decided() -> None:
    whole, gaps = torch.tensor([[1.0, 2.0], [3.0, 6.0]]), torch.tensor([[2.0, NAN]])
    prepare = Standardize().fit(whole, gaps)
    assert prepare(whole)[:, 1:].tolist() == [[-1, 0], [1, 0]]
    assert prepare(gaps).tolist() == [[0, 0, 1]]


def test_without_indicators() -> None:
    x = torch.tensor([[1.0], [NAN], [3.0]])
    assert Standardize(indicators=False).fit(x)(x).tolist() == [[-1], [0], [1]]


def test_a_gap_that_training_did_not_have_becomes_the_mean() -> None:
    assert Standardize().fit(torch.tensor([[1.0], [3.0]]))(torch.tensor([[NAN]])).tolist() == [[0]]


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9, NAN])
def test_a_constant_or_empty_column_is_only_centred(value: float) -> None:
    x = torch.full((1000, 1), value, dtype=torch.float64)
    prepare = Standardize(indicators=False).fit(x)
    torch.testing.assert_close(prepare(x), torch.zeros_like(x), atol=1e-6, rtol=0)
    assert prepare.scales[""].std.item() == 1


def test_views_are_prepared_each_by_itself() -> None:
    digits = load_mfeat()
    prepared = Standardize().fit(digits.x).apply(digits)
    alone = Standardize().fit(digits.x["mor"])(digits.x["mor"])
    assert torch.equal(prepared.x["mor"], alone)
    assert prepared.features == digits.features


def test_names_of_views_stay_beside_their_columns() -> None:
    x = {"u": torch.tensor([[1.0], [NAN]]), "v": torch.tensor([[1.0], [2.0]])}
    data = Dataset(x, {}, features=("a", "b"))
    assert Standardize().fit(x).apply(data).features == ("a", "missing:a", "b")
    assert Standardize().fit(x).apply(Dataset(x, {})).features == ()


@pytest.mark.parametrize(
    ("xs", "says"),
    [
        ([], "at least one tensor"),
        ([torch.zeros(2, 3), torch.zeros(2, 4)], "3 columns here and 4 there"),
        ([torch.zeros(2, 3, 3)], "floating columns"),
        ([torch.zeros(2, 3, dtype=torch.int64)], "floating columns"),
        ([torch.tensor([[1.0, float("inf")]])], "infinite entry in column 1"),
        ([{"u": torch.zeros(1, 1)}, {"v": torch.zeros(1, 1)}], "give the same to all"),
    ],
)
def test_fit_refuses(xs: list[torch.Tensor], says: str) -> None:
    with pytest.raises(DataError, match=says):
        Standardize().fit(*xs)


def test_prepare_refuses_what_was_not_fitted() -> None:
    prepare = Standardize().fit(torch.zeros(2, 3))
    with pytest.raises(DataError, match=r"fitted was floating \[n, 3\]"):
        prepare(torch.zeros(2, 4))
    with pytest.raises(DataError, match="views"):
        prepare({"u": torch.zeros(2, 3)})

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lianhe.core.errors import DataError, SpecError
from lianhe.experiment.statistics import Interval, corrected_interval, holm, sign_flip_p, verdict

DIFFERENCES = [0.01, 0.03, 0.02, 0.04]
PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=8)
NUMBERS = st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=2, max_size=8)


# ---------------------------------------------------------------------------------------------- intervals


def test_interval_by_hand():
    """d̄ = 0.025, s² = 0.0005 / 3, error = sqrt(0.5 s²), and t with 3 degrees of freedom in closed form."""
    found = corrected_interval(DIFFERENCES, test_to_train=0.25)
    error = math.sqrt((1 / 4 + 0.25) * 0.0005 / 3)
    t = 0.025 / error
    p = 1 - 2 / math.pi * (math.atan(t / math.sqrt(3)) + t / math.sqrt(3) / (1 + t * t / 3))
    half = 3.182446305284263 * error
    assert found.mean == pytest.approx(0.025, rel=1e-12)
    assert (found.low, found.high) == pytest.approx((0.025 - half, 0.025 + half), rel=1e-9)
    assert found.p == pytest.approx(p, rel=1e-9)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
def test_without_overlap_it_is_the_t_test(level):
    values = np.random.default_rng(0).normal(0.3, 1, size=9)
    found = corrected_interval(values.tolist(), test_to_train=0, level=level)
    oracle = stats.ttest_1samp(values, 0)
    low, high = oracle.confidence_interval(level)
    assert (found.low, found.high, found.p) == pytest.approx((low, high, oracle.pvalue), rel=1e-10)


def test_overlap_widens_the_interval_by_a_known_factor():
    usual = corrected_interval(DIFFERENCES, test_to_train=0)
    folds = corrected_interval(DIFFERENCES, test_to_train=1 / 3)
    factor = math.sqrt((1 / 4 + 1 / 3) / (1 / 4))
    assert folds.high - folds.mean == pytest.approx(factor * (usual.high - usual.mean), rel=1e-12)
    assert folds.p > usual.p


@given(NUMBERS, st.sampled_from([0.0, 0.25, 1.0]))
def test_turning_the_question_round_turns_the_interval_round(values, ratio):
    found = corrected_interval(values, test_to_train=ratio)
    turned = corrected_interval([-value for value in values], test_to_train=ratio)
    assert (turned.mean, turned.low, turned.high) == pytest.approx((-found.mean, -found.high, -found.low))
    assert turned.p == pytest.approx(found.p)


@pytest.mark.parametrize("scale", [1e-160, 1e-3, 1e160])
def test_the_unit_of_the_metric_does_not_matter(scale):
    found = corrected_interval([scale * value for value in DIFFERENCES], test_to_train=0.25)
    assert found.p == pytest.approx(corrected_interval(DIFFERENCES, test_to_train=0.25).p)
    assert found.low / scale == pytest.approx(-0.004051627157)


def test_equal_differences_give_a_point():
    assert corrected_interval([0.1, 0.1, 0.1], test_to_train=0.5) == Interval(0.1, 0.1, 0.1, 0.0)
    assert corrected_interval([0.0, 0.0], test_to_train=0.5) == Interval(0.0, 0.0, 0.0, 1.0)


def test_interval_refuses_what_it_cannot_answer():
    with pytest.raises(SpecError, match="1 given, 2 needed: run more seeds"):
        corrected_interval([0.1], test_to_train=0.25)
    with pytest.raises(DataError, match=r"differences\[1\]=nan: seed number 1"):
        corrected_interval([0.1, math.nan, 0.2], test_to_train=0.25)
    with pytest.raises(SpecError, match="test_to_train=-1"):
        corrected_interval(DIFFERENCES, test_to_train=-1)
    with pytest.raises(SpecError, match="test_to_train=inf"):
        corrected_interval(DIFFERENCES, test_to_train=math.inf)
    with pytest.raises(SpecError, match="level=95"):
        corrected_interval(DIFFERENCES, test_to_train=0.25, level=95)


def test_false_alarms_are_near_nominal_where_the_usual_test_raises_many():
    """Two predictors of equal worth, fitted anew on ten overlapping splits of the same 60 examples.

    Each sees one of two exchangeable features, so no difference is the truth. At a nominal 5 % the usual
    t-test is wrong several times as often.
    """
    rng = np.random.default_rng(20)
    trials, splits, examples, held_out = 400, 10, 60, 12
    alarms = {0.0: 0, held_out / (examples - held_out): 0}
    for _ in range(trials):
        features = rng.normal(size=(2, examples))
        target = features.sum(0) + rng.normal(size=examples)
        differences = [
            _loss_difference(features, target, rng.permutation(examples), held_out) for _ in range(splits)
        ]
        for ratio in alarms:
            alarms[ratio] += corrected_interval(differences, test_to_train=ratio).p <= 0.05
    usual, corrected = (count / trials for count in alarms.values())
    assert usual > 0.15
    assert 0.02 < corrected < 0.09


def _loss_difference(features, target, order, held_out):
    test, train = order[:held_out], order[held_out:]
    losses = []
    for feature in features:
        slope = feature[train] @ target[train] / (feature[train] @ feature[train])
        losses.append(np.mean((target[test] - slope * feature[test]) ** 2))
    return losses[0] - losses[1]


# ---------------------------------------------------------------------------------------------- many p-values


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([]) == ()
    assert holm([0.2]) == (0.2,)
    assert holm([0.9, 0.8]) == (1.0, 1.0)


@given(PROBABILITIES, st.floats(0.001, 0.999))
def test_holm_rejects_what_the_sequential_procedure_rejects(pvalues, alpha):
    """Brute force: walk up from the smallest p, reject while p <= α / (hypotheses left)."""
    rejected = set()
    for rank, index in enumerate(np.argsort(pvalues, kind="stable")):
        if (len(pvalues) - rank) * pvalues[index] > alpha:
            break
        rejected.add(index)
    assert {index for index, p in enumerate(holm(pvalues)) if p <= alpha} == rejected


@given(PROBABILITIES)
def test_holm_only_ever_raises_a_p_value_and_keeps_their_order(pvalues):
    adjusted = holm(pvalues)
    assert all(p <= q <= 1 for p, q in zip(pvalues, adjusted, strict=True))
    assert all(
        adjusted[i] <= adjusted[j]
        for i, j in product(range(len(pvalues)), repeat=2)
        if pvalues[i] < pvalues[j]
    )


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_holm_refuses_what_is_no_probability(bad):
    with pytest.raises(DataError, match=r"pvalues\[1\]="):
        holm([0.5, bad])


# ---------------------------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("mean", "p", "word"),
    [(0.1, 0.05, "help"), (-0.1, 0.05, "hurt"), (0.1, 0.051, "undecided"), (0.0, 0.0, "undecided")],
)
def test_verdict(mean, p, word):
    assert verdict(Interval(mean, mean - 1, mean + 1, p), p) == word


def test_verdict_asks_the_adjusted_p():
    interval = corrected_interval([0.1, 0.11, 0.12], test_to_train=0)
    assert interval.low > 0
    assert verdict(interval, adjusted_p=0.2) == "undecided"
    assert verdict(interval, adjusted_p=0.2, alpha=0.3) == "help"
    with pytest.raises(SpecError, match="alpha=5"):
        verdict(interval, 0.2, alpha=5)


# ---------------------------------------------------------------------------------------------- sign flips


def test_sign_flips_by_hand():
    """Of the eight sums ±1 ±2 ±4, only ±7 are as large as 7; of the sums ±1 ±1, only ±2 as large as 2."""
    assert sign_flip_p([1, 2, 4]) == 2 / 8
    assert sign_flip_p([1, 1]) == 2 / 4
    assert sign_flip_p([1, -1]) == 1
    assert sign_flip_p([0, 0, 0]) == 1
    assert sign_flip_p([0.1] * 12) == 2 / 2**12


@given(NUMBERS)
def test_sign_flips_by_brute_force(values):
    milli = [round(1000 * value) for value in values]
    sums = [
        abs(sum(s * v for s, v in zip(signs, milli, strict=True)))
        for signs in product((1, -1), repeat=len(milli))
    ]
    assert sign_flip_p(values) == sum(total >= abs(sum(milli)) for total in sums) / len(sums)


def test_sign_flips_agree_with_scipy():
    values = np.random.default_rng(1).normal(0.5, 1, size=10)
    oracle = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(values.tolist()) == pytest.approx(oracle.pvalue)


def test_sign_flips_refuse_too_many_and_none():
    with pytest.raises(SpecError, match="at most 12"):
        sign_flip_p([0.1] * 13)
    with pytest.raises(SpecError, match="0 given, 1 needed"):
        sign_flip_p([])
    with pytest.raises(DataError, match=r"differences\[0\]=inf"):
        sign_flip_p([math.inf])

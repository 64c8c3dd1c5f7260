"""The search finds what is planted, stops what is hopeless, and goes on as if it had not been interrupted."""

from __future__ import annotations

import io
import json
import math

import pytest
import torch
from rich.console import Console
from tests.experiment.tuning.toys import Counted, planted, rows
from torch import nn

import lianhe as lh
from lianhe.experiment.balancing import BALANCING
from lianhe.experiment.tuning.measured import Value, gain
from lianhe.experiment.tuning.options import DEFAULT_METHODS


def told(tuning):
    """All but the time that it took."""
    return [{k: v for k, v in trial.to_dict().items() if k != "seconds"} for trial in tuning.trials]


def test_weights_that_quieten_the_noisy_task_are_found_and_hold_on_fresh_rows():
    spec = planted()
    tuning = lh.tune(spec, trials=12, search=["weights"])
    weights = tuning.best.aggregator.weights
    assert weights["clean"] > 50 * weights["noisy"]
    assert sum(weights.values()) == pytest.approx(2, rel=1e-5)
    assert tuning.best.data is spec.data
    fresh = rows(500, seed=9)
    loss = {
        name: lh.fit(s, seed=5).evaluate(fresh)[0].value
        for name, s in (("best", tuning.best), ("sum", plain(spec)))
    }
    assert loss["best"] < loss["sum"] / 2


def plain(spec):
    return spec.replace(aggregator=lh.Sum())


def test_a_learning_rate_that_is_far_too_small_is_raised():
    tuning = lh.tune(planted(lr=1e-3, rounds=40), trials=10, search=["lr"])
    assert tuning.trials[0].name == "as given"
    assert tuning.best.lr > 2e-3
    assert {trial.name for trial in tuning.trials} == {"as given"}


def test_every_method_is_tried_at_the_given_learning_rate_before_anything_is_drawn():
    spec = planted(rounds=4)
    given = {"half": lh.CAGrad(c=0.5), "upgrad": lh.UPGrad()}
    tuning = lh.tune(spec, trials=7, aggregators=given)
    assert [t.name for t in tuning.trials[:4]] == ["sum", "by_difficulty", "half", "upgrad"]
    assert {t.setting.lr for t in tuning.trials[:4]} == {spec.lr}
    best = lh.tune(spec, trials=3, search=["aggregator"], aggregators=given)
    assert [t.name for t in best.trials] == ["sum", "half", "upgrad"]
    assert best.best.aggregator is {"sum": best.methods["sum"], **given}[best.best_trial.name]
    assert set(DEFAULT_METHODS) <= set(BALANCING)


def test_the_first_trial_is_the_plain_sum_on_rows_without_the_validation_rows():
    spec = planted(rounds=20)
    first = lh.tune(spec, trials=1, seeds=[3], prune=False).trials[0]
    assert (first.gain, first.setting.weights) == (0.0, {"clean": 1.0, "noisy": 1.0})
    split = lh.experiment.tuning.held_out.with_held_out(spec, 0.2, 3)
    assert [len(split.data[0]), len(split.validation[0])] == [160, 40]
    together = {tuple(row) for part in (split.data, split.validation) for row in part[0].tolist()}
    assert together == {tuple(row) for row in spec.data[0].tolist()}
    by_hand = lh.fit(plain(split), seed=3).evaluate(split.validation)
    assert {t: v["loss"].value for t, v in first.reached.items()} == {r.task: r.value for r in by_hand}


def test_several_seeds_are_averaged():
    one, two, both = (lh.tune(planted(rounds=8), trials=1, seeds=s).trials[0] for s in ([0], [1], [0, 1]))
    means = [t.reached["clean"]["loss"].value for t in (one, two, both)]
    assert means[2] == pytest.approx((means[0] + means[1]) / 2)
    assert (one.rounds, both.rounds) == (8, 16)


def test_pruning_ends_fits_early_and_not_the_best_of_them():
    full, early = Counted(), Counted()
    spec = planted(rounds=60)
    tasks = [
        [lh.Task(n, lambda: nn.Linear(4, 1), loss) for n in ("clean", "noisy")] for loss in (full, early)
    ]
    lh.tune(spec.replace(participants=tasks[0]), trials=16, search=["weights"], prune=False)
    pruned = lh.tune(spec.replace(participants=tasks[1]), trials=16, search=["weights"])
    stopped = [t for t in pruned.trials if t.state == "pruned"]
    assert len(stopped) >= 4
    assert all(18 <= t.rounds < 60 for t in stopped)
    assert {t.rounds for t in pruned.trials if t.state == "finished"} == {60}
    assert early.calls < 0.9 * full.calls == 0.9 * 16 * 60 * 2
    assert pruned.best_trial.state == "finished"
    assert all(t.reached == {} for t in stopped)


@pytest.mark.parametrize("plug", [45, 130])
def test_an_interrupted_search_goes_on_to_the_same_end_and_repeats_no_finished_trial(tmp_path, plug):
    options = {"trials": 9, "search": ["weights", "lr"], "seeds": [2]}
    study = tmp_path / "study.jsonl"
    whole = lh.tune(planted(12, Counted()), **options)
    with pytest.raises(KeyboardInterrupt):
        lh.tune(planted(12, Counted(plug)), study=study, **options)
    with study.open("ab") as file:
        file.write(b'{"op_code":4,"wor')  # what a kill in the middle of a line leaves
    seen = []
    resumed = lh.tune(planted(12, Counted()), study=study, observer=lambda *a: seen.append(a[:2]), **options)
    assert told(resumed) == told(whole)
    assert 0 < len(seen) < 9
    assert seen[-1] == (9, 9)
    again = lh.tune(planted(12, Counted(1)), study=study, **options)
    assert told(again) == told(whole)


def test_a_study_can_be_given_more_trials(tmp_path):
    few, more = ({"search": ["weights"], "trials": n} for n in (4, 8))
    lh.tune(planted(6), study=tmp_path / "s.jsonl", **few)
    extended = lh.tune(planted(6), study=tmp_path / "s.jsonl", **more)
    assert told(extended) == told(lh.tune(planted(6), **more))
    assert told(extended) != told(lh.tune(planted(6), seed=1, **more))


def test_settings_that_diverge_are_failed_trials_and_not_the_end(monkeypatch):
    class Raises(lh.Sum):
        def weigh(self, stack):
            raise lh.AggregationError("no")

    tuning = lh.tune(planted(4), trials=4, search=["aggregator"], aggregators={"bad": Raises()})
    bad = [t for t in tuning.trials if t.name == "bad"]
    assert bad
    assert {(t.state, t.gain, t.why) for t in bad} == {("failed", None, "no")}
    assert tuning.best_trial.name == "sum"
    assert "failed" in rendered(tuning)


def test_if_the_plain_sum_fails_that_is_said():
    with pytest.raises(lh.NonFiniteError, match="sum, which gains are relative to, failed"):
        lh.tune(planted(40, lr=1e30, optimizer="sgd"), trials=2)


def rendered(tuning):
    console = Console(width=200, file=io.StringIO())
    console.print(tuning.table())
    return console.file.getvalue()


def test_the_table_is_sorted_and_the_answer_warns(tmp_path):
    tuning = lh.tune(planted(10), trials=5, search=["weights"])
    lines = [line.split() for line in rendered(tuning).splitlines() if "%" in line]
    gains = [float(line[line.index("%") - 1]) for line in lines]
    assert gains == sorted(gains, reverse=True)
    assert "best of 5 trials" in tuning.answer()
    assert "too high" in tuning.answer()
    written = json.loads(tuning.to_json(tmp_path / "t.json").read_text())
    assert written["best"] == tuning.best_trial.number
    assert [t["name"] for t in written["trials"]] == [t.name for t in tuning.trials]


def test_gains_are_relative_and_turned_where_lower_is_better():
    reference = {"a": {"auroc": Value(0.8, True)}, "b": {"mae": Value(20.0), "r2": Value(-0.5, True)}}
    reached = {"a": {"auroc": Value(0.88, True)}, "b": {"mae": Value(15.0), "r2": Value(-0.25, True)}}
    wanted = {"a": ("auroc",), "b": ("mae", "r2")}
    assert gain(reached, reference, wanted) == pytest.approx((0.1 + (0.25 + 0.5) / 2) / 2)
    assert gain(reference, reference, wanted) == 0
    with pytest.raises(lh.DataError, match="mae of task 'b' is 0 on the validation rows"):
        gain(reached, {**reference, "b": {**reference["b"], "mae": Value(0.0)}}, wanted)


def test_metrics_of_a_task_count_and_its_loss_where_it_has_none():
    x = torch.randn(120, 3, generator=torch.Generator().manual_seed(0))
    tasks = [
        lh.Task("bit", nn.Linear(3, 2), metrics=["accuracy", "auroc"]),
        lh.Task("size", nn.Linear(3, 1), "mse"),
    ]
    spec = lh.Spec(tasks, data=(x, {"bit": (x[:, 0] > 0).long(), "size": x[:, 1]}), rounds=8)
    tuning = lh.tune(spec, trials=2, search=["weights"])
    assert tuning.wanted == {"bit": ("accuracy", "auroc"), "size": ("loss",)}
    assert lh.tune(spec, trials=1, metric="loss").wanted == {"bit": ("loss",), "size": ("loss",)}


def test_own_validation_data_and_early_stopping_are_used_as_they_are():
    spec = planted(40, validation=rows(30, seed=4), evaluate_every=5)
    tuning = lh.tune(spec, trials=2, search=["weights"], validation=None)
    by_hand = lh.fit(plain(spec)).evaluate(spec.validation)
    assert tuning.trials[0].reached["clean"]["loss"].value == by_hand[0].value
    from lianhe.regularisation import EarlyStopping

    stopped = lh.tune(
        spec.replace(stopping=EarlyStopping("noisy.loss", patience=1)), trials=2, validation=None
    )
    assert stopped.trials[0].rounds < 40


def test_tasks_with_data_of_their_own_are_split_each_and_shared_ones_once():
    held_out = lh.experiment.tuning.held_out.with_held_out
    shared = rows(50)
    tasks = [
        lh.Task("clean", nn.Linear(6, 1), "mse", data=shared),
        lh.Task("noisy", nn.Linear(6, 1), "mse", data=shared),
        lh.Task("own", nn.Linear(6, 1), "mse", data=(shared[0][:20], shared[0][:20, 0])),
    ]
    first, second, third = held_out(lh.Spec(tasks, rounds=2), 0.2, 0).participants
    assert first.data is second.data
    assert (len(first.data[0]), len(third.data[0]), len(third.validation[0])) == (40, 16, 4)
    assert len(lh.tune(lh.Spec(tasks, rounds=3), trials=3).trials) == 3


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"trials": 0}, lh.SpecError, "trials=0"),
        ({"seed": -1}, lh.SpecError, "^seed=-1"),
        ({"search": []}, lh.SpecError, "search=\\[\\]"),
        ({"search": "weights"}, lh.SpecError, "search='weights': give a sequence"),
        ({"search": ["weight"]}, lh.UnknownNameError, "did you mean 'weights'"),
        ({"aggregators": ["upgrade"]}, lh.UnknownNameError, "did you mean 'upgrad'"),
        ({"aggregators": ["krum"]}, lh.SpecError, "give Krum"),
        ({"aggregators": []}, lh.SpecError, "aggregators=\\[\\]"),
        ({"aggregators": ["upgrad"], "search": ["lr"]}, lh.SpecError, 'add "aggregator" to search'),
        ({"seeds": []}, lh.SpecError, "seeds=\\(\\)"),
        ({"seeds": [1, 1]}, lh.SpecError, "all different"),
        ({"seeds": [-1]}, lh.SpecError, "a member of seeds=-1"),
        ({"metric": "auroc"}, lh.SpecError, "metric='auroc': task 'clean' has loss"),
        ({"validation": 1.5}, lh.SpecError, "validation=1.5"),
        ({"validation": None}, lh.SpecError, "task 'clean' has no validation data"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_trained(options, kind, says):
    with pytest.raises(kind, match=says):
        lh.tune(planted(2, Counted(plug=1)), **options)


def test_a_measure_that_cannot_be_taken_is_named():
    spec = planted(2)
    x, y = spec.data
    gone = {**y, "noisy": torch.full_like(y["noisy"], math.nan).index_fill(0, torch.tensor([199]), 1.0)}
    with pytest.raises(lh.DataError, match="loss of task 'noisy' is nan on the validation rows"):
        lh.tune(spec.replace(data=(x, gone)), trials=1, seeds=[1])

import json
import tomllib

import pytest
from tests.experiment.specs import SITES, TASKS
from typer.testing import CliRunner

from lianhe.cli.app import app

SEARCH = """
[tune]
trials = 5
search = ["weights", "lr", "aggregator"]
aggregators = ["upgrad", {name = "cagrad", c = 0.2}]
metric = "loss"
"""


def lianhe(*args):
    return CliRunner().invoke(app, list(args))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.toml").write_text(TASKS + SEARCH)
    return tmp_path


def test_the_table_the_answer_and_the_files(here):
    result = lianhe("tune", "spec.toml", "--json", "t.json", "--write", "best.toml")
    assert (result.exit_code, result.stderr) == (0, "")
    for said in (
        "sum",
        "by_difficulty",
        "upgrad",
        "cagrad c=0.2",
        "disease loss",
        "best of 5 trials",
        "best.toml",
    ):
        assert said in result.stdout
    written = json.loads((here / "t.json").read_text())
    best = next(t for t in written["trials"] if t["number"] == written["best"])
    training = tomllib.loads((here / "best.toml").read_text())["training"]
    assert training["lr"] == best["setting"]["lr"]
    assert training["rounds"] == 30
    run = lianhe("run", "best.toml")
    assert (run.exit_code, run.stderr) == (0, "")


@pytest.mark.parametrize(
    ("search", "trials", "expected"),
    [
        ('search = ["aggregator"]\naggregators = [{name = "cagrad", c = 0.2}]', 2, {"sum", "cagrad"}),
        ('search = ["weights"]', 2, {"fixed"}),
        ('search = ["lr"]', 2, {"upgrad"}),
    ],
)
def test_the_written_file_has_the_best_method_with_its_options(here, search, trials, expected):
    (here / "spec.toml").write_text(f"{TASKS}\n[tune]\n{search}\n")
    assert lianhe("tune", "spec.toml", "--trials", str(trials), "--write", "best.toml").exit_code == 0
    aggregator = tomllib.loads((here / "best.toml").read_text())["training"]["aggregator"]
    name = aggregator if isinstance(aggregator, str) else aggregator["name"]
    assert name in expected
    if name == "cagrad":
        assert aggregator["c"] == 0.2
    if name == "fixed":
        assert aggregator["weights"].keys() == {"disease", "max_heart_rate"}


def test_a_study_goes_on_with_more_trials(here):
    assert (
        lianhe("tune", "spec.toml", "--trials", "2", "--study", "s.jsonl", "--json", "a.json").exit_code == 0
    )
    assert (
        lianhe("tune", "spec.toml", "--trials", "4", "--study", "s.jsonl", "--json", "b.json").exit_code == 0
    )
    few, more = (json.loads((here / name).read_text())["trials"] for name in ("a.json", "b.json"))
    assert (len(few), len(more)) == (2, 4)
    assert more[:2] == few


def test_an_interrupted_search_says_how_it_goes_on(here, monkeypatch):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("lianhe.experiment.tuning.question.attempt", interrupt)
    result = lianhe("tune", "spec.toml", "--study", "s.jsonl")
    assert result.exit_code == 130
    assert "go on with: lianhe tune spec.toml --study s.jsonl" in result.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--trials", "0"], "--trials: tune.trials = 0: must be at least 1"),
        (["--write", "./spec.toml"], "is the file itself"),
        (["--study", "spec.toml"], "is no study, or damaged"),
    ],
)
def test_wrong_arguments(here, args, said):
    before = (here / "spec.toml").read_text()
    result = lianhe("tune", "spec.toml", *args)
    assert result.exit_code in {2, 4}
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert (here / "spec.toml").read_text() == before


def test_sites_have_no_weights_to_search(here):
    (here / "sites.toml").write_text(SITES)
    result = lianhe("tune", "sites.toml")
    assert result.exit_code == 2
    assert 'kind = "sites": weights are searched for tasks' in result.stderr


def test_without_optuna_the_way_to_get_it_is_said(here, monkeypatch):
    monkeypatch.setattr("lianhe.cli.tune.find_spec", lambda name: None)
    result = lianhe("tune", "spec.toml")
    assert result.exit_code == 2
    assert "pip install 'lianhe[tune]'" in result.stderr

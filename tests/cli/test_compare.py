import json

import pytest
from tests.experiment.specs import TASKS
from typer.testing import CliRunner

from lianhe.cli.app import app


def lianhe(*args):
    return CliRunner().invoke(app, list(args))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.toml").write_text(TASKS)
    return tmp_path


def test_the_answer_and_its_files(here):
    result = lianhe("compare", "spec.toml", "--seeds", "3", "--html", "pages/a.html", "--json", "a.json")
    assert (result.exit_code, result.stderr) == (0, "")
    for fragment in (
        "Two tasks",
        "disease",
        "auroc",
        "against solo: joining helps",
        "pages/a.html",
        "a.json",
    ):
        assert fragment in result.stdout
    assert "<svg" in (here / "pages" / "a.html").read_text()
    assert {score["seed"] for score in json.loads((here / "a.json").read_text())["scores"]} == {0, 1, 2}


def test_other_aggregators(here):
    result = lianhe("compare", "spec.toml", "--seeds", "2", "--against", "solo, mean")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "against mean: joining helps" in result.stdout


def test_a_page_without_what_draws_it_is_refused_before_anything_is_trained(here, monkeypatch):
    monkeypatch.setattr("lianhe.cli.compare.find_spec", lambda name: None)
    result = lianhe("compare", "spec.toml", "--html", "a.html")
    assert result.exit_code == 2
    assert "lianhe[report]" in result.stderr

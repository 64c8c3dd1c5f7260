"""`lianhe advise`: an answer, its files, and what is refused before anything is trained."""

import json

import pytest
from tests.experiment.specs import SITES, TASKS
from typer.testing import CliRunner

from lianhe.cli.app import app


def lianhe(*args):
    return CliRunner().invoke(app, list(args))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.toml").write_text(TASKS)
    return tmp_path


def test_the_advice_and_its_files(here):
    given = ("--seeds", "2", "--methods", "sum, upgrad", "--html", "a.html", "--json", "a.json")
    result = lianhe("advise", "spec.toml", *given)
    assert (result.exit_code, result.stderr) == (0, "")
    for fragment in ("Two tasks", "disease", "together", "Verdicts rest on 2 splits", "sum", "a.html"):
        assert fragment in result.stdout
    assert "The advice" in (here / "a.html").read_text()
    read = json.loads((here / "a.json").read_text())
    assert read["choice"] in {"together", "apart", "in groups", "undecided"}
    assert [method["name"] for method in read["methods"]] == ["mean", "UPGrad, as specified", "sum"]
    assert read["answer"] in result.stdout


def test_what_is_wrong_is_said_before_anything_is_trained(here, monkeypatch):
    (here / "sites.toml").write_text(SITES)
    result = lianhe("advise", "sites.toml")
    assert result.exit_code == 2
    assert "about sites" in result.stderr
    monkeypatch.setattr("lianhe.cli.advise.find_spec", lambda name: None)
    result = lianhe("advise", "spec.toml", "--html", "a.html")
    assert result.exit_code == 2
    assert "lianhe[report]" in result.stderr
    result = lianhe("advise", "spec.toml", "--budget", "0")
    assert result.exit_code == 2
    assert "budget=0" in result.stderr

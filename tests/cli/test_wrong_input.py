import pytest
from tests.experiment.specs import TASKS
from tests.experiment.wrong_specs import WRONG
from tests.experiment.wrong_training import MORE
from typer.testing import CliRunner

from lianhe.cli.app import app


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lianhe(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.mark.parametrize("wrong", [*WRONG, *MORE], ids=lambda wrong: wrong.what)
def test_says_what_is_wrong_with_a_specification(wrong, here):
    spec = here / "spec.toml"
    spec.write_text(wrong.text)
    result = lianhe("run", spec)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == len(wrong.lines), result.stderr
    for line, fragments in zip(lines, wrong.lines, strict=True):
        assert line.startswith(f"lianhe: {spec}:")
        for fragment in fragments:
            assert fragment in line
    assert "Traceback" not in result.output
    assert "pydantic" not in result.output
    assert list(here.iterdir()) == [spec], "nothing is left behind"


@pytest.mark.parametrize(
    ("args", "fragments"),
    [
        (["run"], ["SPEC.toml", "--resume"]),
        (["run", "spec.toml", "--resume", "runs/a"], ["one of them"]),
        (["run", "nowhere.toml"], ["nowhere.toml", "cannot be read"]),
        (["run", "."], [".", "cannot be read"]),
        (["run", "spec.toml", "--seed", "-1"], ["--seed: training.seed = -1", "at least 0"]),
        (["run", "spec.toml", "--device", "cudda"], ["--device", "no device of torch"]),
        (["run", "spec.toml", "--checkpoint-every", "0"], ["--checkpoint-every", "at least 1"]),
        (["run", "spec.toml", "--name", "a/b"], ["--name 'a/b'", "slash"]),
        (["run", "--resume", "runs/nothing"], ["runs/nothing is no run", "spec.toml"]),
        (["run", "--resume", "runs/nothing", "--seed", "3"], ["leave", "--seed"]),
        (["report", "runs/nothing"], ["runs/nothing is no run"]),
        (["compare", "nowhere.toml"], ["nowhere.toml", "cannot be read"]),
        (["compare", "spec.toml", "--seeds", "1"], ["--seeds: compare.seeds = 1", "two or more"]),
        (
            ["compare", "spec.toml", "--against", "solo,poled"],
            ['--against: compare.against[1] = "poled"', "solo"],
        ),
    ],
)
def test_says_what_is_wrong_with_the_arguments(args, fragments, here):
    (here / "spec.toml").write_text(TASKS)
    result = lianhe(*args)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert len(result.stderr.splitlines()) == 1
    for fragment in fragments:
        assert fragment in result.stderr
    assert [path.name for path in here.iterdir()] == ["spec.toml"]


def test_options_that_do_not_exist_are_usage_errors(here):
    assert lianhe("run", "--sed", "3").exit_code == 2
    assert lianhe("rn").exit_code == 2


def test_a_specification_in_another_encoding(here):
    (here / "spec.toml").write_bytes('title = "Zürich"\n'.encode("latin-1"))
    result = lianhe("run", "spec.toml")
    assert result.exit_code == 2
    assert "UTF-8" in result.stderr


def test_a_directory_that_is_there_is_not_touched(here):
    (here / "spec.toml").write_text(TASKS)
    (here / "runs" / "spec").mkdir(parents=True)
    result = lianhe("run", "spec.toml")
    assert result.exit_code == 2
    assert "--resume runs/spec" in result.stderr
    assert "--name" in result.stderr
    assert list((here / "runs" / "spec").iterdir()) == []


def test_what_goes_wrong_at_the_first_round_only_leaves_nothing(here):
    (here / "spec.toml").write_text(TASKS.replace('"upgrad"', '{name = "krum", byzantine = 1}'))
    result = lianhe("run", "spec.toml")
    assert result.exit_code == 3
    assert "Krum" in result.stderr
    assert not (here / "runs" / "spec").exists()


def test_help_teaches(here):
    result = lianhe("--help")
    assert result.exit_code == 0
    for fragment in ("lianhe demo", "lianhe run examples/", "Exit codes", "130"):
        assert fragment in result.output
    for command in ("demo", "run", "compare", "report"):
        result = lianhe(command, "--help")
        assert result.exit_code == 0
        assert f"lianhe {command}" in result.output


def test_version():
    result = lianhe("--version")
    assert result.exit_code == 0
    assert result.output.startswith("lianhe ")

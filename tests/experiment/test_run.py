import fcntl
import json
from pathlib import Path

import pytest
from tests.experiment.runs import contents, run, written
from tests.experiment.specs import SITES, TASKS, VIEWS, changed

from lianhe.core.checkpoint import load_checkpoint
from lianhe.core.errors import AggregationError, CheckpointError, NonFiniteError, SpecError
from lianhe.experiment import run as run_module
from lianhe.experiment.config import load_spec
from lianhe.experiment.metrics import read_metrics
from lianhe.experiment.run import resume_run, start_run, write_report

FAMILIES = {"tasks": TASKS, "sites": SITES, "views": VIEWS}


class Killed(BaseException):
    """What nobody catches."""


class Kill:
    """An observer that ends everything after so many calls."""

    def __init__(self, calls):
        self.left = calls

    def __call__(self, done, total, records):
        self.left -= 1
        if self.left < 0:
            raise Killed


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Uninterrupted runs, by family."""
    folder = tmp_path_factory.mktemp("finished")
    return {kind: run(text, folder / kind) for kind, text in FAMILIES.items()}


def interrupted(text, directory, calls):
    loaded = load_spec(written(text, directory))
    with pytest.raises(Killed):
        start_run(loaded, directory, Kill(calls))


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_run_on_disk_is_complete(kind, finished):
    directory = finished[kind]
    assert {p.name for p in directory.iterdir()} == {
        "spec.toml",
        "metrics.jsonl",
        "checkpoint",
        "result.json",
        "report.html",
    }
    result = json.loads((directory / "result.json").read_text())
    records = read_metrics(directory / "metrics.jsonl")
    assert result["measures"] == [json.loads(line) for line in _lines(directory) if '"test"' in line]
    assert (
        result["rounds"]
        == load_checkpoint(directory / "checkpoint")["round"]
        == max(r.round for r in records) + 1
    )
    assert {"value", "weight", "participant", "task", "round", "name", "split"} <= json.loads(
        _lines(directory)[0]
    ).keys()
    assert "<svg" in (directory / "report.html").read_text()


def _lines(directory):
    return (directory / "metrics.jsonl").read_text().splitlines()


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_resolved_specification_gives_the_same_run(kind, finished, tmp_path):
    again = run((finished[kind] / "spec.toml").read_text(), tmp_path / kind)
    assert contents(again) == contents(finished[kind])


@pytest.mark.parametrize(
    ("kind", "calls"), [("tasks", 0), ("tasks", 14), ("tasks", 32), ("sites", 3), ("views", 2), ("views", 3)]
)
def test_resumed_is_the_same_as_never_interrupted(kind, calls, finished, tmp_path):
    interrupted(FAMILIES[kind], tmp_path / kind, calls)
    assert not (tmp_path / kind / "result.json").exists()
    outcome = resume_run(tmp_path / kind)
    assert not outcome.was_finished
    assert contents(tmp_path / kind) == contents(finished[kind])


def test_interrupted_twice_with_half_a_line_at_the_end(finished, tmp_path):
    directory = tmp_path / "tasks"
    interrupted(TASKS, directory, 12)
    with (directory / "metrics.jsonl").open("ab") as file:
        file.write(b'{"round": 12, "partic')
    with pytest.raises(Killed):
        resume_run(directory, Kill(9))
    (directory / "checkpoint" / ".checkpoint.json.1.part").write_bytes(b"{")
    resume_run(directory)
    assert contents(directory) == contents(finished["tasks"])


@pytest.mark.parametrize("step", ["result.json", "report.html", "spec.toml"])
def test_interrupted_between_files(step, finished, tmp_path, monkeypatch):
    directory = tmp_path / "tasks"
    write = run_module.write_atomically

    def killed(path, content):
        if path.name == step:
            raise Killed
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "write_atomically", killed)
        patch.setattr("lianhe.report.html.write_atomically", killed)
        with pytest.raises(Killed):
            start_run(load_spec(written(TASKS, directory)), directory)
    if step == "spec.toml":
        with pytest.raises(SpecError, match="is no run"):
            resume_run(directory)
        return
    resume_run(directory)
    assert contents(directory) == contents(finished["tasks"])


def test_a_finished_run_stays_as_it_is(finished):
    before = contents(finished["tasks"])
    outcome = resume_run(finished["tasks"])
    assert outcome.was_finished
    assert {m.name for m in outcome.measures} == {"loss", "auroc", "accuracy", "mae"}
    assert contents(finished["tasks"]) == before


@pytest.mark.parametrize("damage", ["truncated", "flipped", "manifest", "missing"])
def test_a_damaged_checkpoint_is_refused_and_nothing_is_changed(damage, tmp_path):
    directory = tmp_path / "tasks"
    interrupted(TASKS, directory, 12)
    damaged(directory / "checkpoint", damage)
    before = contents(directory)
    with pytest.raises(CheckpointError, match=r"checkpoint|damaged|missing"):
        resume_run(directory)
    assert contents(directory) == before


def damaged(checkpoint, damage):
    (tensors,) = checkpoint.glob("*.safetensors")
    content = bytearray(tensors.read_bytes())
    if damage == "truncated":
        tensors.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        tensors.write_bytes(content)
    elif damage == "missing":
        tensors.unlink()
    else:
        manifest = checkpoint / "checkpoint.json"
        manifest.write_text(manifest.read_text().replace('\\"round\\", 10', '\\"round\\", 11'))


def test_damaged_numbers_are_refused(tmp_path):
    directory = tmp_path / "tasks"
    interrupted(TASKS, directory, 12)
    lines = _lines(directory)
    (directory / "metrics.jsonl").write_text("\n".join([*lines[:3], lines[3][:20], *lines[4:]]) + "\n")
    with pytest.raises(CheckpointError, match=r"metrics.jsonl:4: the line is damaged"):
        resume_run(directory)


def test_data_that_changed_are_refused(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("a,b,sick\n" + "".join(f"{i},{i % 3},{i % 2}\n" for i in range(40)))
    text = """
kind = "tasks"
[data]
path = "table.csv"
inputs = ["a", "b"]
[[tasks]]
name = "sick"
[training]
rounds = 9
checkpoint_every = 2
"""
    interrupted(text, tmp_path / "run", 5)
    table.write_text(table.read_text().replace("7,1,1", "7,1,0"))
    with pytest.raises(SpecError, match=r"data\.sha256 = .*no longer the same"):
        resume_run(tmp_path / "run")


def test_a_loss_that_is_not_finite_leaves_the_last_good_checkpoint(tmp_path):
    text = changed(
        TASKS, ("lr = 1e-3", 'lr = 1e30\noptimizer = "sgd"'), ("checkpoint_every = 5", "checkpoint_every = 1")
    )
    with pytest.raises(NonFiniteError, match=r"participant '\w+' is (inf|nan) in round \d"):
        run(text, tmp_path / "run")
    state = load_checkpoint(tmp_path / "run" / "checkpoint")
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert state["round"] == max(record.round for record in records) + 1


def test_an_aggregator_that_refuses_leaves_nothing(tmp_path):
    with pytest.raises(AggregationError, match="Krum"):
        run(changed(TASKS, ('"upgrad"', '{name = "krum", byzantine = 1}')), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_at_once_are_one_too_many(tmp_path):
    interrupted(TASKS, tmp_path / "run", 12)
    with (tmp_path / "run" / "spec.toml").open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SpecError, match="another process"):
            resume_run(tmp_path / "run")


def test_the_report_of_an_unfinished_run(tmp_path):
    interrupted(TASKS, tmp_path / "run", 12)
    page = write_report(tmp_path / "run", tmp_path / "page.html").read_text()
    assert "not finished" in page
    assert "<svg" in page


def test_without_matplotlib_the_report_has_tables(finished, tmp_path, monkeypatch):
    from lianhe.core.errors import MissingExtraError

    def missing(*args):
        raise MissingExtraError("matplotlib", "report", "drawing")

    monkeypatch.setattr("lianhe.report.html.draw_curves", missing)
    page = write_report(finished["tasks"], tmp_path / "page.html").read_text()
    assert "<svg" not in page
    assert "auroc" in page
    assert "lianhe[report]" in page


def test_without_held_out_rows_the_last_numbers_are_the_measures(tmp_path):
    no_test = run(changed(TASKS, ("test = 0.25", "test = 0.0")), tmp_path / "a")
    assert {m["split"] for m in json.loads((no_test / "result.json").read_text())["measures"]} == {
        "validation"
    }
    text = changed(
        TASKS, ("test = 0.25", "test = 0.0"), ("validation = 0.1\n", ""), ("evaluate_every = 10\n", "")
    )
    neither = run(text, tmp_path / "b")
    assert {m["split"] for m in json.loads((neither / "result.json").read_text())["measures"]} == {"train"}


@pytest.mark.parametrize("schedule", ['{name = "steps", every = 7}', '{name = "exponential", factor = 0.97}'])
def test_learning_rates_go_on_where_they_were(schedule, tmp_path):
    text = changed(TASKS, ('"cosine"', schedule))
    once = run(text, tmp_path / "a" / "run")
    interrupted(text, tmp_path / "b" / "run", 20)
    resume_run(tmp_path / "b" / "run")
    assert contents(tmp_path / "b" / "run") == contents(once)


def test_killed_before_every_rename(tmp_path, monkeypatch):
    text = changed(TASKS, ("rounds = 30", "rounds = 6"), ("checkpoint_every = 5", "checkpoint_every = 2"))
    once = run(text, tmp_path / "once" / "run")
    for renames in range(1, 9):
        directory = tmp_path / f"before{renames}" / "run"
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", killed_at(renames))
            with pytest.raises(Killed):
                run(text, directory)
        resume_run(directory)
        assert contents(directory) == contents(once)


def killed_at(renames):
    left, replace = [renames], Path.replace

    def killed(path, target):
        if not left[0]:
            raise Killed
        left[0] -= 1
        return replace(path, target)

    return killed

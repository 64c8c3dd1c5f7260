"""`lianhe run` is killed, not asked to stop, and resumed: it ends as if nothing had happened."""

import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.experiment.runs import contents
from tests.experiment.specs import SITES, TASKS, VIEWS, changed

import lianhe

ONCE = ("checkpoint_every = 5", "checkpoint_every = 1")
LONGER = {
    "tasks": changed(TASKS, ("rounds = 30", "rounds = 120"), ONCE),
    "sites": changed(SITES, ("rounds = 6", "rounds = 30"), ("checkpoint_every = 2", "checkpoint_every = 1")),
    "views": changed(VIEWS, ("rounds = 4", "rounds = 20")),
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here"),
]


def lianhe_command(*args):
    """The command in a process of its own, with all its imports: seconds."""
    path = str(Path(lianhe.__file__).parents[1])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, "-m", "lianhe.cli", *map(str, args)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def command(*args):
    """What a process does that is forked from one that has imported everything: a real one, but at once."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        from lianhe.cli.app import app

        app([str(arg) for arg in args])


@pytest.fixture(scope="module")
def start():
    context = multiprocessing.get_context("forkserver")
    # torch imports the last of these with the first optimiser; nobody wants to wait for it in every process.
    context.set_forkserver_preload(
        ["lianhe.experiment.run", "matplotlib.backends.backend_svg", "torch._dynamo"]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")

        def start(*args):
            process = context.Process(target=command, args=args)
            process.start()
            return process

        start("--version").join()
        yield start


def wait_for(path, process, count=1):
    """Wait until a file has been there in so many versions, or the process has ended."""
    versions = set()
    alive = process.is_alive if hasattr(process, "is_alive") else lambda: process.poll() is None
    while len(versions) < count and alive():
        with contextlib.suppress(FileNotFoundError):
            versions.add(path.stat().st_mtime_ns)
        time.sleep(0.001)


@pytest.fixture(scope="module", params=LONGER)
def uninterrupted(request, start, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "spec.toml").write_text(LONGER[request.param])
    started = time.perf_counter()
    process = start("run", folder / "spec.toml", "--runs", folder / "once", "--name", "run")
    process.join(60)
    assert process.exitcode == 0
    return folder, time.perf_counter() - started


@pytest.mark.parametrize("checkpoints", [1, 9])
def test_killed_after_a_checkpoint(checkpoints, uninterrupted, start):
    folder, _ = uninterrupted
    directory = folder / f"after{checkpoints}" / "run"
    process = start("run", folder / "spec.toml", "--runs", directory.parent, "--name", "run")
    wait_for(directory / "checkpoint" / "checkpoint.json", process, checkpoints)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (directory / "result.json").exists()
    finish(directory, start)
    assert contents(directory) == contents(folder / "once" / "run")


def test_killed_at_random_moments_again_and_again(uninterrupted, start):
    folder, seconds = uninterrupted
    directory = folder / "random" / "run"
    moments = random.Random(7)
    args = ("run", folder / "spec.toml", "--runs", directory.parent, "--name", "run")
    killed = 0
    while killed < 5 and not (directory / "result.json").exists():
        process = start(*args)
        wait_for(directory / "spec.toml", process)
        process.join(moments.uniform(0, 0.5 * seconds))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        args = ("run", "--resume", directory)
    assert killed >= 1
    finish(directory, start)
    assert contents(directory) == contents(folder / "once" / "run")


def finish(directory, start):
    process = start("run", "--resume", directory)
    process.join(60)
    assert process.exitcode == 0


def test_the_command_itself_is_killed(tmp_path):
    """Without any help from the test: three processes of their own."""
    (tmp_path / "spec.toml").write_text(LONGER["tasks"])
    once = lianhe_command("run", tmp_path / "spec.toml", "--runs", tmp_path / "once")
    twice = lianhe_command("run", tmp_path / "spec.toml", "--runs", tmp_path / "twice")
    directory = tmp_path / "twice" / "spec"
    wait_for(directory / "checkpoint" / "checkpoint.json", twice)
    twice.kill()
    twice.communicate()
    assert twice.returncode == -signal.SIGKILL
    output, errors = (resumed := lianhe_command("run", "--resume", directory)).communicate()
    assert (resumed.returncode, errors) == (0, "")
    assert "report.html" in output
    once.communicate()
    assert contents(directory) == contents(tmp_path / "once" / "spec")


def test_interrupted_by_the_keyboard(tmp_path):
    (tmp_path / "spec.toml").write_text(LONGER["tasks"])
    process = lianhe_command("run", tmp_path / "spec.toml", "--runs", tmp_path)
    wait_for(tmp_path / "spec" / "checkpoint" / "checkpoint.json", process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert f"lianhe run --resume {tmp_path / 'spec'}" in errors
    assert "Traceback" not in errors

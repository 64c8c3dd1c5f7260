"""Two processes are one: every process takes the step that one with the whole batch would take."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.engines.processes import AGGREGATORS, apart, at_one_process_only, cases, nothing_for_the_second
from tests.toys import F64, assert_close, assert_same, fit, table, task_spec, weights_of

from lianhe.aggregation import MGDA, UPGrad
from lianhe.core.contribution import Request
from lianhe.core.engine import LoopEngine
from lianhe.core.errors import SpecError
from lianhe.core.stack import Rows
from lianhe.core.streams import Stream, untouched_global_state
from lianhe.engines import DistributedEngine, SharedEngine
from lianhe.engines.jointstep import part_of
from lianhe.engines.shared import shared_tasks


class Alone:
    """A Fabric of one process."""

    global_rank, world_size = 0, 1

    def all_reduce(self, data, group=None, reduce_op="mean"):
        assert reduce_op == "sum"
        return data


@pytest.mark.parametrize("aggregator", AGGREGATORS.values(), ids=list(AGGREGATORS))
@pytest.mark.parametrize("inner", [None, SharedEngine("sequential", accumulate=2)], ids=["", "accumulated"])
def test_one_process_is_the_shared_engine(inner, aggregator):
    spec = task_spec(table(missing=0.4), rounds=4, aggregator=aggregator)
    distributed = fit(spec, engine=DistributedEngine(Alone(), inner))
    plain = fit(spec, engine=SharedEngine("sequential"))
    assert_close(weights_of(distributed), weights_of(plain))
    assert [r.value for r in distributed.history] == pytest.approx(
        [r.value for r in plain.history], rel=1e-12
    )


def test_approximations_are_not_distributed():
    with pytest.raises(SpecError, match=r"inner=SharedEngine\('last_layer'\): .* an exact method"):
        DistributedEngine(Alone(), SharedEngine("last_layer"))


def test_its_state_is_that_of_the_inner_engine():
    engine = DistributedEngine(Alone(), SharedEngine("vmapped", chunk=2))
    fit(task_spec(aggregator=UPGrad(), rounds=5), engine=engine)
    assert engine.state_dict() == engine.inner.state_dict()
    assert engine.findings() == engine.inner.findings() != ()
    other = DistributedEngine(Alone(), SharedEngine("vmapped", chunk=2))
    other.load_state_dict(engine.state_dict())
    assert other.findings() == engine.findings()


def test_mean_gramians_would_give_another_direction():
    """Each process its own Gramian, and these averaged: the wrong way, whose direction is another one."""
    with untouched_global_state():
        problem = task_spec(table(), batch_size=None).problem(0)
        whole = Request(Stream(0, 0), problem.joint)
        tasks, engine = shared_tasks(problem.live), SharedEngine("sequential")
        parts = [
            part_of(tasks, Request(Stream(0, 0), problem.joint, part=(r, 2)), whole, engine) for r in (0, 1)
        ]
        rows = engine.collect(problem.live, whole).values
        torch.testing.assert_close(parts[0].values + parts[1].values, rows, rtol=1e-12, atol=1e-14)
        # Two matrices side by side have the sum of their Gramians; the parts' own means are twice the shares.
        averaged = torch.cat([2 * part.values for part in parts], 1) / 2**0.5
        right, wrong = (MGDA().weigh(Rows(matrix)) @ rows for matrix in (rows, averaged))
        assert float(torch.cosine_similarity(right, wrong, 0)) < 0.999


def test_the_cases_are_what_they_say():
    for data, labelled in ((at_one_process_only(), True), (nothing_for_the_second(), False)):
        with untouched_global_state():
            problem = task_spec(data, batch_size=None).problem(0)
            second = Request(Stream(0, 0), problem.joint, part=(1, 2))
            counts = {task.name: task.labelled(second) for task in problem.live}
        assert counts["flag"] == 0
        assert bool(counts["size"]) is labelled


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """What two processes have fitted, by case and process."""
    directory = tmp_path_factory.mktemp("processes")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.engines.processes", str(directory)],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]

    def of(case):
        files = [load_file(directory / f"{case}.{rank}.safetensors") for rank in (0, 1)]
        return [dict(sorted(tensors.items())) for tensors in files]

    return of


def in_one(spec, engine):
    """The same in one process."""
    return dict(sorted(weights_of(fit(spec, engine=engine)).items()))


needs_fabric = pytest.mark.skipif(
    importlib.util.find_spec("lightning_fabric") is None, reason="needs lianhe[fabric]"
)


@needs_fabric
@pytest.mark.slow
@pytest.mark.parametrize("case", cases())
def test_two_processes_are_one(fitted, case):
    first, second = fitted(case)
    assert_same(first, second)
    assert_close(first, in_one(cases()[case], SharedEngine("sequential")))


@needs_fabric
@pytest.mark.slow
@pytest.mark.parametrize("aggregator", ["UPGrad", "Certified"])
def test_processes_may_accumulate(fitted, aggregator):
    first, second = fitted(f"accumulated {aggregator}")
    assert_same(first, second)
    assert_close(first, in_one(cases()[f"plain {aggregator}"], LoopEngine()))


@needs_fabric
@pytest.mark.slow
@pytest.mark.parametrize("case", apart())
def test_processes_agree_on_running_statistics(fitted, case):
    first, second = fitted(case)
    assert_same(first, second)


@needs_fabric
@pytest.mark.slow
def test_running_statistics_are_averaged(fitted):
    x, _ = table()
    found, _ = fitted("normalised")
    parts = [x[0::2], x[1::2]]
    mean = sum(0.1 * part.mean(0) for part in parts) / 2
    variance = sum(0.9 + 0.1 * part.var(0) for part in parts) / 2
    torch.testing.assert_close(found["encoder.0.running_mean"], mean, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(found["encoder.0.running_var"], variance, rtol=1e-12, atol=0)
    assert found["encoder.0.running_mean"].dtype == F64

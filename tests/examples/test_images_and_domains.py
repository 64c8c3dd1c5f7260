"""Canvases, Fashion-MNIST, heart and speakers: the examples run, and their tasks are what they say."""

import gzip
import importlib
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from tests.examples.running import MULTITASK, printed

import lianhe as lh

DATA = MULTITASK.parent / "data"
FILES = ("mnist_canvas64.npz", "fashion_mnist_7500.npz", "fsdd_1500.npz")


@pytest.fixture(scope="module")
def examples() -> Iterator[None]:
    """Examples import what lies beside them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(MULTITASK)
        yield


@pytest.fixture(scope="module")
def canvases(examples: None) -> ModuleType:
    return importlib.import_module("canvases")


@pytest.fixture(scope="module")
def fashion(examples: None) -> ModuleType:
    return importlib.import_module("fashion")


@pytest.fixture(scope="module")
def heart(examples: None) -> ModuleType:
    return importlib.import_module("heart")


@pytest.fixture(scope="module")
def speakers(examples: None) -> ModuleType:
    return importlib.import_module("speakers")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "alternatives", "measures"),
    [
        ("canvases", ["nashmtl", "solo", "sum", "upgrad"], ["mask iou", "digits auroc", "box mae"]),
        ("fashion", ["upgrad", "solo", "sum"], ["top accuracy", "brightness mae"]),
        ("heart", ["upgrad", "solo", "sum"], ["angina auroc", "cholesterol mae"]),
        ("speakers", ["upgrad", "solo", "pooled", "batch norm", "sum"], ["george accuracy", "theo accuracy"]),
    ],
)
def test_an_example_ends_with_its_table(name: str, alternatives: list[str], measures: list[str]) -> None:
    out = printed(name, "--quick")
    assert all(measure in out for measure in measures)
    rows = [line.strip() for line in out.splitlines() if "±" in line]
    assert all(row.startswith(who) for row, who in zip(rows, alternatives, strict=True))
    assert all(f"against {who}:" in out for who in alternatives[1:])


@pytest.mark.slow
def test_floors_are_of_every_task_with_one_number_a_row() -> None:
    lines = printed("floors", "heart", "--seeds", "1").splitlines()
    assert [line.split()[0] for line in lines] == [
        *("disease", "angina", "severity", "heart_rate", "st_depression", "cholesterol")
    ]
    linear, constant = (float(number) for number in lines[0].split()[3::2])
    assert linear > 0.8
    assert constant == 0.5


@pytest.mark.parametrize("name", FILES)
def test_each_file_has_its_licence_and_needs_no_pickle(name: str) -> None:
    section = (DATA / "LICENCES.md").read_text(encoding="utf-8").split(f"## {name}")[1].split("\n## ")[0]
    assert "MIT" in section or "Attribution-ShareAlike" in section
    with np.load(DATA / name, allow_pickle=False) as file:
        assert all(file[key].dtype != object for key in file.files)


def test_labels_of_canvases_agree_with_one_another(canvases: ModuleType) -> None:
    x, y = canvases.load("test")
    assert x.shape == (1000, 1, 32, 32)
    assert 0 <= x.min() < x.max() <= 1
    for i in range(0, 1000, 50):
        seen = set(y["mask"][i].unique().tolist()) - {0}
        present = {digit + 1 for digit in y["digits"][i].nonzero()[:, 0].tolist()}
        # A digit may lie under another, and one may come twice.
        assert seen <= present
        assert len(present) <= int(y["count"][i]) + 1 <= 3
        left, top, right, bottom = (y["box"][i] + 2).mul(16).tolist()
        rows, columns = y["mask"][i].nonzero().T
        assert left <= 2 * columns.min()
        assert 2 * columns.max() < right
        assert top <= 2 * rows.min()
        assert 2 * rows.max() < bottom


def test_canvases_of_a_seed_are_drawn_from_their_own_half(canvases: ModuleType) -> None:
    trial = canvases.trials(1)(3)
    train, test = (set(map(bytes, rows.numpy())) for rows in (trial.joint.spec.data[0], trial.joint.test[0]))
    assert (len(train), len(test)) == (canvases.TRAINED, canvases.TESTED)
    assert not train & test
    whole = set(map(bytes, canvases.load("test")[0].numpy()))
    assert test <= whole
    assert not train & whole
    again = canvases.trials(1)(3).joint.spec.data[0]
    assert torch.equal(again, trial.joint.spec.data[0])
    assert not torch.equal(canvases.trials(1)(4).joint.spec.data[0], again)


def test_a_kind_of_fashion_is_known_where_it_applies(fashion: ModuleType) -> None:
    data = fashion.load()
    y = data.y
    assert y["group"].bincount().tolist() == [2926, 806, 763, 2268, 737]
    assert torch.equal(y["top"] != -100, y["group"] == 0)
    assert torch.equal(y["shoe"] != -100, y["group"] == 3)
    assert y["top"][y["top"] >= 0].bincount().tolist() == [708, 756, 708, 754]
    assert y["shoe"][y["shoe"] >= 0].bincount().tolist() == [746, 769, 753]
    torch.testing.assert_close((y["brightness"] + 3) / 10, data.x.mean((1, 2, 3)))


def test_shape_is_width_against_height(fashion: ModuleType) -> None:
    ink = torch.zeros(2, 28, 28, dtype=torch.bool)
    ink[0, 3:7, 2:26] = True  # 4 high, 24 wide
    ink[1, 0:28, 10:17] = True  # 28 high, 7 wide
    assert fashion.shape(ink).exp().tolist() == pytest.approx([6.0, 0.25])


def test_no_finding_of_the_heart_is_among_the_inputs(heart: ModuleType) -> None:
    data = heart.load()
    assert data.x.shape == (920, 11 + 5)
    columns = {name.split("=")[0] for name in data.features[:11]}
    assert columns == {"age", "trestbps", "sex", "fbs", "cp", "restecg"}
    marks = dict(zip(data.features[11:], data.x[:, 11:].sum(0).tolist(), strict=True))
    values = {name: data.x[:, i].isnan().sum() for i, name in enumerate(data.features[:11])}
    assert marks == {f"{name} missing": count for name, count in values.items() if count}
    known = {
        task: int((~y.isnan() if y.is_floating_point() else y != -100).sum()) for task, y in data.y.items()
    }
    assert known == {
        "disease": 920,
        "severity": 920 - 293,
        "angina": 865,
        "heart_rate": 865,
        "st_depression": 858,
        "cholesterol": 920 - 202,
    }
    sites = lh.datasets.load_heart().values()
    angina = torch.cat([site.x[:, site.features.index("exang=TRUE")] for site in sites])
    assert torch.equal(data.y["angina"] == 1, angina == 1)
    rate = torch.cat([site.y["max_heart_rate"] for site in sites])
    torch.testing.assert_close(data.y["heart_rate"] * 25 + 140, rate, equal_nan=True)


def test_speakers_train_on_other_recordings_at_every_seed(speakers: ModuleType) -> None:
    trial = speakers.trials(1)
    seen: set[bytes] = set(map(bytes, trial(0).joint.test[0].numpy()))
    assert len(seen) == 600
    for seed in range(5):
        for task in trial(seed).joint.spec.participants:
            x, digit = task.data
            assert digit.bincount().tolist() == [3] * 10
            rows = set(map(bytes, x.numpy()))
            assert not rows & seen
            seen |= rows
    with pytest.raises(lh.DataError, match="seeds 0 to 4 only"):
        trial(5)


def test_a_test_recording_is_known_to_its_speaker_only(speakers: ModuleType) -> None:
    this = speakers.trials(1)(0)
    x, y = this.joint.test
    known = torch.stack([labels != -100 for labels in y.values()])
    assert known.sum(0).tolist() == [1] * 600
    for part in this.others["pooled"]:
        ((_, name),) = part.rename.items()
        assert torch.equal(x[y[name] != -100], part.test[0])
        assert torch.equal(y[name][y[name] != -100], part.test[1]["pooled"])


def test_the_part_of_fashion_mnist_is_cut_from_the_originals(tmp_path: Path) -> None:
    make = runpy.run_path(str(DATA / "make_subsets.py"))
    with np.load(DATA / "fashion_mnist_7500.npz", allow_pickle=False) as file:
        x, y = file["x"], file["y"]
    more = np.zeros((2, 28, 28), np.uint8)
    images, labels = tmp_path / "images.gz", tmp_path / "labels.gz"
    images.write_bytes(gzip.compress(b"\0" * 16 + x.tobytes() + more.tobytes(), 1))
    labels.write_bytes(gzip.compress(b"\0" * 8 + y.tobytes() + b"\0\0", 1))
    made = make["fashion"](str(images), str(labels))
    assert np.array_equal(made["x"], x)
    assert np.array_equal(made["y"], y)


def test_the_part_of_the_speakers_loses_less_than_a_step(tmp_path: Path) -> None:
    make = runpy.run_path(str(DATA / "make_subsets.py"))
    g = np.random.default_rng(0)
    x = g.uniform(-13.8, 7.4, (40, 32, 32)).astype(np.float16)
    numbers = {"digit": np.arange(40) % 10, "speaker": np.arange(40) % 6, "index": np.arange(40)}
    np.savez(tmp_path / "all.npz", x=x, speaker_names=np.array(["a"]), **numbers)
    made = make["speakers"](str(tmp_path / "all.npz"))
    assert made["index"].tolist() == list(range(25))
    assert np.abs(made["x"] / 8 - x[:25].astype(np.float32)).max() <= 1 / 16

"""Data of every form: tensors, arrays, Datasets, loaders; read batch by batch, in the order of a stream."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.toys import (
    CPU,
    F64,
    LOSS,
    MISSING,
    assert_close,
    assert_same,
    fit,
    head,
    net,
    table,
    task_spec,
    weights_of,
)
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, TensorDataset

from lianhe.core.errors import DataError
from lianhe.core.streams import Stream, untouched_global_state
from lianhe.participants import Task
from lianhe.participants.data import (
    Feed,
    StreamSource,
    TensorSource,
    as_inputs,
    as_source,
    input_tensors,
    observed,
)

ROWS = 23


class Items(Dataset):
    """A Dataset that counts what is read of it."""

    def __init__(self, data):
        self.x, self.y = data
        self.read = []

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        self.read.append(i)
        return self.x[i], {task: labels[i] for task, labels in self.y.items()}


def source_of(data, batch_size=8, owner="the test"):
    return as_source(data, batch_size, CPU, owner)


def epoch(source, stream=Stream(0, 0, "", "batches"), skip=0):  # noqa: B008  a value
    with untouched_global_state():
        return list(source.epoch(stream, skip))


FORMS = {
    "tuple": lambda data: data,
    "arrays": lambda data: (data[0].numpy(), {n: v.numpy() for n, v in data[1].items()}),
    "object": lambda data: SimpleNamespace(x=data[0], y=data[1]),
    "dataset": Items,
}


# ------------------------------------------------------------------------ all forms are one


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch_size", [1, 8, ROWS, 100, None])
@pytest.mark.parametrize("drawn", [True, False])
def test_every_form_gives_the_same_batches(form, batch_size, drawn):
    data = table(ROWS, missing=0.3)
    stream = Stream(3, 1, "", "batches") if drawn else None
    source = source_of(FORMS[form](data), batch_size)
    size = min(batch_size or ROWS, ROWS)
    assert (source.rows, source.batches, set(source.tasks)) == (ROWS, -(-ROWS // size), set(LOSS))
    order = torch.arange(ROWS)
    if drawn and (size < ROWS or form == "dataset"):  # a full batch of tensors is not shuffled
        order = torch.randperm(ROWS, generator=stream.generator())
    found = epoch(source, stream)
    assert len(found) == source.batches
    for batch, rows in zip(found, order.split(size), strict=True):
        assert torch.equal(batch.x, data[0][rows])
        for name, labels in data[1].items():
            torch.testing.assert_close(batch.y[name], labels[rows], equal_nan=True, rtol=0, atol=0)
            assert batch.labelled[name] == int(observed(labels[rows]).sum())
    for name, labels in data[1].items():
        assert source.labelled(name) == int(observed(labels).sum())


@pytest.mark.parametrize("form", ["tuple", "dataset"])
def test_an_epoch_may_be_entered_in_the_middle(form):
    source = source_of(FORMS[form](table(ROWS)))
    whole = epoch(source)
    for skip in range(3):
        for ours, theirs in zip(epoch(source, skip=skip), whole[skip:], strict=True):
            assert torch.equal(ours.x, theirs.x)


@given(rows=st.integers(1, 30), size=st.integers(1, 40) | st.none(), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_every_row_is_in_every_epoch_once(rows, size, seed):
    source = source_of((torch.arange(rows)[:, None], {"t": torch.arange(rows)}), size)
    for batches in (epoch(source, Stream(seed)), epoch(source, None)):
        assert sorted(torch.cat([b.x[:, 0] for b in batches]).tolist()) == list(range(rows))
        assert all(torch.equal(b.x[:, 0], b.y["t"]) for b in batches)
        assert {len(b.x) for b in batches[:-1]} <= {size}


def test_a_feed_gives_one_batch_a_round_and_the_same_when_asked_again():
    feed = Feed(source_of(table(ROWS)), 5, "name")
    seen = []
    for round_ in range(7):
        assert feed.batch(round_) is feed.batch(round_)
        seen.append(feed.batch(round_).x)
    expected = [b.x for number in range(3) for b in epoch(feed.source, Stream(5, number, "name", "batches"))]
    assert all(torch.equal(a, b) for a, b in zip(seen, expected, strict=False))
    jumped = Feed(source_of(table(ROWS)), 5, "name")
    for round_ in (4, 5, 2, 6, 0):
        assert torch.equal(jumped.batch(round_).x, seen[round_])


@pytest.mark.parametrize("form", [*FORMS, "loader", "plain loader"])
def test_a_fit_on_every_form_is_the_same_fit(form):
    data = table(ROWS, missing=0.3)
    if form == "loader":
        given_ = DataLoader(Items(data), batch_sampler=[list(range(16)), list(range(16, ROWS))])
        plain = fit(task_spec(DataLoader(Items(data), 16), batch_size=3))
        assert_close(weights_of(fit(task_spec(given_))), weights_of(plain))
        return
    if form == "plain loader":  # keeps its own batches, and its own order
        given_ = DataLoader(Items(data), ROWS)
        assert_close(weights_of(fit(task_spec(given_))), weights_of(fit(task_spec(data, batch_size=None))))
        return
    assert_close(weights_of(fit(task_spec(FORMS[form](data)))), weights_of(fit(task_spec(data))))


# ------------------------------------------------------------------------ inputs and labels of many types


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x):
        parts = x.values() if isinstance(x, dict) else x
        return self.net(torch.cat([p if isinstance(p, torch.Tensor) else p["deep"] for p in parts], 1))


NESTED = {
    "dict": lambda x: {"left": x[:, :2], "right": x[:, 2:]},
    "tuple": lambda x: (x[:, :1], x[:, 1:]),
    "nested": lambda x: {"left": x[:, :2], "right": {"deep": x[:, 2:]}},
    "arrays": lambda x: {"left": x[:, :2].numpy(), "right": x[:, 2:].numpy()},
}


@pytest.mark.parametrize("shape", NESTED)
def test_inputs_may_be_several_tensors(shape):
    x, y = table(ROWS)
    nested = fit(task_spec((NESTED[shape](x), y), encoder=Reader(), validation=(NESTED[shape](x), y)))
    plain = fit(task_spec((x, y), validation=(x, y)))
    assert next(iter(weights_of(nested).values())).equal(next(iter(weights_of(plain).values())))
    assert nested.history == plain.history


@pytest.mark.parametrize("kind", [np.int32, np.int16, np.uint8, np.int64])
@pytest.mark.parametrize("form", ["tuple", "dataset"])
def test_classes_may_be_whole_numbers_of_any_type(kind, form):
    x, y = table(ROWS)
    other = (x, {**y, "kind": y["kind"].numpy().astype(kind)})
    assert_same(
        weights_of(fit(task_spec(FORMS[form](other)))), weights_of(fit(task_spec(FORMS[form]((x, y)))))
    )


@pytest.mark.parametrize(
    "make", [lambda b: b.bool(), lambda b: b.long(), lambda b: b.float(), lambda b: b.int().numpy()]
)
def test_bits_may_be_of_any_type(make):
    x, y = table(ROWS)
    other = (x, {**y, "flag": make(y["flag"])})
    assert_same(weights_of(fit(task_spec(other))), weights_of(fit(task_spec((x, y)))))


def test_bits_that_are_whole_numbers_are_missing_where_they_are_minus_100():
    x, y = table(ROWS, missing=0.4)
    whole = torch.where(y["flag"].isnan(), MISSING, y["flag"].nan_to_num()).long()
    assert (whole == MISSING).any()
    assert_same(weights_of(fit(task_spec((x, {**y, "flag": whole})))), weights_of(fit(task_spec((x, y)))))


def test_arrays_may_be_read_only_reversed_or_lists_for_labels():
    x, y = table(ROWS)
    frozen = x.numpy().copy()
    frozen.flags.writeable = False
    assert torch.equal(as_inputs(frozen, "the test"), x)
    assert torch.equal(as_inputs(x.numpy()[::-1], "the test"), x.flip(0))
    assert torch.equal(as_inputs(np.asfortranarray(x.numpy()), "the test"), x)
    source = source_of((x, {"kind": y["kind"].tolist()}), None)
    assert torch.equal(epoch(source)[0].y["kind"], y["kind"])


def test_images_and_sequences_of_labels():
    """Segmentation: a class for every pixel, some of them missing; a loss of the user's own for a vector."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(12, 2, 3, 3, generator=g, dtype=F64)
    y = (x.sum(1) > 0).long()
    y[:, 0] = MISSING
    target = x.mean((2, 3))
    target[3, 1] = torch.nan
    target[5] = torch.nan
    conv = nn.Conv2d(2, 2, 1).double()

    def vector(prediction, target):
        there = ~target.isnan()
        return torch.where(there, prediction.mean((2, 3)) - target.nan_to_num(), 0).square().sum(1)

    participants = [
        Task("pixels", conv, "cross_entropy", metrics=["accuracy"]),
        Task("vector", nn.Conv2d(2, 2, 1).double(), vector),
    ]
    data = (x, {"pixels": y, "vector": target})
    result = fit(
        task_spec(data, participants=participants, encoder=None, batch_size=5, rounds=40, validation=data)
    )
    measures = {(r.task, r.name): r for r in result.history if r.split == "validation"}
    assert measures["pixels", "accuracy"].weight == 12 * 6
    with torch.no_grad():
        predictions = result.model(x)
    right = (predictions["pixels"].argmax(1) == y)[:, 1:].double().mean()
    assert measures["pixels", "accuracy"].value == pytest.approx(float(right), abs=1e-6)
    assert measures["vector", "loss"].weight == 11  # rows with any label
    prediction = predictions["vector"]
    there = ~target.isnan().all(1)
    expected = vector(prediction[there], target[there]).mean()
    assert measures["vector", "loss"].value == pytest.approx(float(expected), rel=1e-12)


# ------------------------------------------------------------------------ streamed


def test_a_dataset_is_not_read_whole_before_training():
    items = Items(table(200))
    spec = task_spec(items, batch_size=8, rounds=1)
    with untouched_global_state():
        spec.problem(0)
    assert set(items.read) <= set(range(8))
    assert len(items.read) <= 16
    items.read.clear()
    fit(spec)
    assert len(items.read) <= 16 + 8  # and then one batch a round


def test_epochs_read_every_row_once_each():
    items = Items(table(ROWS))
    with untouched_global_state():
        spec = task_spec(items, batch_size=8, rounds=None, epochs=3)
        spec.problem(0)
    before = len(items.read)
    items.read.clear()
    assert fit(spec).rounds == 9
    counts = np.bincount(items.read[before:], minlength=ROWS)
    assert counts.tolist() == [3] * ROWS


def test_batch_size_none_is_one_batch_of_all():
    items = Items(table(ROWS))
    source = source_of(items, None)
    assert source.batches == 1
    assert len(epoch(source)[0].x) == ROWS


def test_a_loader_that_shuffles_is_deterministic_under_the_seed():
    data = table(ROWS)

    def run(seed, **options):
        return weights_of(fit(task_spec(DataLoader(Items(data), 5, shuffle=True, **options)), seed=seed))

    assert_same(run(0), run(0))
    assert not torch.equal(run(0)["encoder.0.weight"], run(1)["encoder.0.weight"])
    own = {"generator": torch.Generator()}
    torch.rand(3, generator=own["generator"])
    assert_same(run(0, **own), run(0, **own))


def test_a_sampler_with_a_generator_is_seeded_too():
    def run():
        items = Items(table(ROWS))
        sampler = RandomSampler(items, generator=torch.Generator())
        return weights_of(fit(task_spec(DataLoader(items, 5, sampler=sampler))))

    assert_same(run(), run())


def test_augmentation_depends_on_the_batch_and_not_on_what_was_drawn_before():
    class Noisy(Items):
        def __getitem__(self, i):
            x, y = super().__getitem__(i)
            return x + torch.randn(4, dtype=F64), y

    for data in (Noisy(table(ROWS)), DataLoader(Noisy(table(ROWS)), 8, shuffle=True)):
        source = source_of(data)
        whole = epoch(source)
        with untouched_global_state():
            iterator = source.epoch(Stream(0, 0, "", "batches"))
            for expected in whole:
                torch.rand(7)  # dropout, say
                assert torch.equal(next(iterator).x, expected.x)
        torch.rand(3)
        assert torch.equal(epoch(source, skip=2)[0].x, whole[2].x)
        assert not torch.equal(epoch(source, Stream(1, 0, "", "batches"))[0].x, whole[0].x)


# ------------------------------------------------------------------------ refused


class Streamed(IterableDataset):
    def __iter__(self):
        yield from zip(*table(4), strict=False)


class Endless(Dataset):
    def __getitem__(self, i):
        return torch.zeros(4), {"size": torch.zeros(())}


class Lying(Items):
    """Says it is longer than it is."""

    def __len__(self):
        return 10


class Short(DataLoader):
    def __len__(self):
        return 9


class Forgetful(Items):
    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return x, (y if i < 8 else {"size": y["size"]})


class ForgetfulBatches(Items):
    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return x, {n: v for n, v in y.items() if self.whole or n == "size"}

    whole = True


X, Y = table(ROWS)
REFUSED = {
    "nothing": (None, "data of the test is a NoneType: expected"),
    "a tensor": (X, "is a Tensor"),
    "a list": ([X, Y], "is a list of 2"),
    "a triple": ((X, Y, X), "is a tuple of 3"),
    "a text": ("data.csv", "is a str: expected"),
    "labels without names": ((X, Y["size"]), "is a tuple of 2: expected"),
    "lengths": ((X, {"size": Y["size"][:5]}), r"tensors of different lengths: {'x': 23, \"y\['size'\]\": 5}"),
    "lengths of inputs": (
        ({"a": X, "b": X[:3]}, Y),
        r"different lengths: {\"x\['a'\]\": 23, \"x\['b'\]\": 3",
    ),
    "no rows": ((X[:0], {n: v[:0] for n, v in Y.items()}), "data of the test has no rows"),
    "no inputs": (({}, {}), "has no rows"),
    "NaN": (
        (torch.where(torch.arange(4) == 1, torch.nan, X), Y),
        r"x of the test holds NaN .*in columns \[1\]",
    ),
    "infinite": (
        (torch.where(torch.arange(4) > 1, torch.inf, X), Y),
        r"in columns \[2, 3\]: fill them in first",
    ),
    "NaN inside": (({"a": X, "b": X * torch.nan}, Y), r"x\['b'\] of the test holds NaN"),
    "texts": (
        (np.array([["a"], ["b"]]), {"t": [0, 1]}),
        "x of the test is a ndarray, not a tensor or an array of",
    ),
    "objects": ((np.array([None, {}]), {"t": [0, 1]}), "x of the test is a ndarray, not a tensor"),
    "ragged": ((X, {"size": [[1.0], [1.0, 2.0]]}), r"y\['size'\] of the test is a list of 2, not a tensor"),
    "numbers": (([[1.0, 2.0]], {"t": [0]}), "x of the test holds single numbers"),
    "a single label": ((X, {"size": 1.0}), r"y\['size'\] of the test holds single numbers"),
    "an iterable dataset": (DataLoader(Streamed(), 2), "data of the test has no length"),
    "a bare iterable dataset": (Streamed(), "data of the test has no length"),
    "without length": (Endless(), "has no length: give a Dataset with __len__"),
    "pairs of tensors": (
        DataLoader(TensorDataset(X, Y["size"]), 4),
        r"gives a list of 2: expected batches \(x, {task: y}",
    ),
    "items of tensors": (TensorDataset(X, Y["size"]), "expected batches"),
    "an empty dataset": (Items((X[:0], Y)), "has no rows"),
    "an empty loader": (DataLoader(Items((X[:3], Y)), 8, drop_last=True), "has no rows"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_data_of_another_form_are_refused(case):
    data, match = REFUSED[case]
    with pytest.raises(DataError, match=match):
        source_of(data)


def test_batches_that_are_wrong_later_are_found_when_they_come():
    x, y = table(ROWS)

    def collate(items):
        xs = torch.stack([i[0] for i in items])
        ys = {n: torch.stack([i[1][n] for i in items]) for n in items[0][1]}
        return (xs, ys) if len(items) == 8 else (xs[:-1], ys)

    with pytest.raises(DataError, match="different lengths"):
        epoch(source_of(DataLoader(Items((x, y)), 8, collate_fn=collate)))
    with pytest.raises(
        DataError, match="gave a batch without labels of task 'kind': give all tasks in every batch"
    ):
        epoch(source_of(DataLoader(Forgetful((x, y)), 8)), None)
    with pytest.raises(DataError, match="ended after 3 batches, but its length is 9"):
        epoch(source_of(Short(Items((x, y)), 8)), None)
    late = {**y, "kind": y["kind"].clone()}
    late["kind"][20] = 9
    with pytest.raises(DataError, match="label 9 of task 'kind' in the specification is out of range"):
        fit(task_spec(Items((x, late)), rounds=3))


def test_a_source_that_is_asked_for_a_task_it_lacks():
    source = StreamSource(DataLoader(Items(table(9)), 4), CPU, "the test")
    assert source.labelled("nothing") == 0
    assert set(source.few().y) == set(LOSS)
    assert len(source.few().x) == 2
    assert len(TensorSource(X[:1], {"t": [0]}, None, CPU, "the test").few().x) == 1


def test_inputs_are_listed_with_their_tensors():
    a, b, c = (torch.zeros(1) for _ in range(3))
    assert [id(t) for t in input_tensors({"a": a, "b": (b, {"c": c})})] == [id(a), id(b), id(c)]


def test_one_row_is_enough():
    x, y = table(1)
    result = fit(task_spec((x, {"size": y["size"]}), participants=[Task("size", head(1), "mse")], rounds=3))
    assert result.history[-1].value < result.history[0].value

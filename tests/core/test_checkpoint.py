"""Checkpoints: round trips, damage of every kind, and crashes at every moment."""

from __future__ import annotations

import json
import math
from hashlib import sha256

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from lianhe.core import checkpoint
from lianhe.core.checkpoint import (
    MANIFEST,
    load_checkpoint,
    save_checkpoint,
    tidy_checkpoint,
    write_atomically,
)
from lianhe.core.errors import CheckpointError

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]

tensors = st.builds(
    lambda dtype, shape, values: (
        torch.tensor(values[: math.prod(shape)] or [0], dtype=torch.float64)
        .repeat(math.prod(shape))[: math.prod(shape)]
        .reshape(shape)
        .to(dtype)
    ),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
    st.lists(st.sampled_from([0.0, 1.0, -2.5, math.nan, math.inf]), min_size=1, max_size=9),
)
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
keys = st.text(max_size=4) | st.integers() | st.booleans()
states = st.recursive(
    plain | tensors | st.sampled_from([torch.float32, torch.bfloat16]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=8,
)


def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        # Bit for bit: NaN is equal to itself here.
        equal = a.dtype == b.dtype and a.shape == b.shape
        return equal and bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(a, dict):
        return (
            list(a) == list(b)
            and [type(k) for k in a] == [type(k) for k in b]
            and all(same(a[k], b[k]) for k in a)
        )
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


STATE = {
    "joint": {"encoder": {"weight": torch.arange(6.0).view(2, 3), "empty": torch.empty(0, 4)}},
    "optimizer": {0: {"step": torch.tensor(3.0)}, 7: {"betas": (0.9, 0.999)}},
    "text": "héllo\u2028\x1f",
    "flag": True,
    "nothing": None,
    "loss": math.nan,
    "list": [1, [2.5, ()], {}],
}


@given(st.dictionaries(st.text(max_size=4), states, max_size=3))
@settings(deadline=None, max_examples=150)
def test_what_is_loaded_is_what_was_saved(tmp_path_factory, state):
    directory = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(directory, state)
    assert same(load_checkpoint(directory), state)


def test_an_ordinary_state_comes_back(tmp_path):
    save_checkpoint(tmp_path / "new" / "folder", STATE)
    assert same(load_checkpoint(tmp_path / "new" / "folder"), STATE)
    assert not same(load_checkpoint(tmp_path / "new" / "folder"), {**STATE, "flag": 1})


def test_tensors_that_share_memory_or_are_not_contiguous_come_back(tmp_path):
    base = torch.arange(12.0).view(3, 4)
    state = {"a": base, "b": base, "c": base.T, "d": base[:, ::2], "e": base[0].expand(5, 4), "f": base[1, 1]}
    save_checkpoint(tmp_path, state)
    assert same(load_checkpoint(tmp_path), state)


def test_a_state_is_copied_when_it_is_saved(tmp_path):
    weight = torch.ones(3, requires_grad=True)
    save_checkpoint(tmp_path, {"w": weight})
    with torch.no_grad():
        weight.zero_()
    loaded = load_checkpoint(tmp_path)["w"]
    assert loaded.tolist() == [1, 1, 1]
    assert not loaded.requires_grad


def test_only_the_newest_checkpoint_is_kept(tmp_path):
    for number in range(4):
        save_checkpoint(tmp_path, {"x": torch.full((2,), float(number))})
    assert load_checkpoint(tmp_path)["x"].tolist() == [3, 3]
    assert len(list(tmp_path.iterdir())) == 2


def test_saving_the_same_again_is_fine(tmp_path):
    for _ in range(2):
        save_checkpoint(tmp_path, STATE)
    assert same(load_checkpoint(tmp_path), STATE)


@pytest.mark.parametrize(
    "value",
    [{1, 2}, b"bytes", object(), lambda: 1, 1 + 2j, torch.device("cpu"), {(1, 2): 3}, {b"k": 1}],
    ids=lambda v: type(v).__name__,
)
def test_what_cannot_be_read_back_is_not_written(tmp_path, value):
    save_checkpoint(tmp_path, STATE)
    with pytest.raises(
        CheckpointError, match="a state may hold tensors, numbers, text, lists and mappings, not"
    ):
        save_checkpoint(tmp_path, {"ok": [1, {"bad": value}]})
    assert same(load_checkpoint(tmp_path), STATE)


# ------------------------------------------------------------------------ damage


def tensors_file(directory):
    (path,) = directory.glob("tensors-*.safetensors")
    return path


def test_every_flipped_bit_is_found(tmp_path):
    save_checkpoint(tmp_path, {"x": torch.arange(3.0), "n": [1, None], "s": "é"})
    for path in (tmp_path / MANIFEST, tensors_file(tmp_path)):
        whole = path.read_bytes()
        for position in range(len(whole)):
            for bit in (0, 3, 5, 7):
                damaged = bytearray(whole)
                damaged[position] ^= 1 << bit
                path.write_bytes(damaged)
                with pytest.raises(CheckpointError, match="checkpoint|manifest|tensors"):
                    load_checkpoint(tmp_path)
        path.write_bytes(whole)
    assert load_checkpoint(tmp_path)["s"] == "é"


def test_every_truncation_is_found(tmp_path):
    save_checkpoint(tmp_path, STATE)
    for path in (tmp_path / MANIFEST, tensors_file(tmp_path)):
        whole = path.read_bytes()
        for length in range(0, len(whole), 7):
            path.write_bytes(whole[:length])
            with pytest.raises(CheckpointError, match="damaged"):
                load_checkpoint(tmp_path)
        path.write_bytes(whole)
    assert same(load_checkpoint(tmp_path), STATE)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=rf"{MANIFEST}: there is no checkpoint here"):
        load_checkpoint(tmp_path)
    save_checkpoint(tmp_path, STATE)
    path = tensors_file(tmp_path)
    path.unlink()
    with pytest.raises(CheckpointError, match=f"{path.name}: the checkpoint's tensors are missing"):
        load_checkpoint(tmp_path)
    (tmp_path / "folder" / MANIFEST).mkdir(parents=True)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(tmp_path / "folder")


def forge(directory, body, content=b""):
    """A manifest with a valid checksum, as somebody might send it."""
    body = body if isinstance(body, str) else json.dumps(body)
    manifest = {"sha256": sha256(body.encode()).hexdigest(), "body": body}
    (directory / MANIFEST).write_text(json.dumps(manifest))
    (directory / "tensors-0.safetensors").write_bytes(content)
    return sha256(content).hexdigest()


GOOD = save({"t0": torch.zeros(2)})
FORGED = {
    "no object": [1, 2],
    "empty": {},
    "no state": {"format": 1, "tensors": "tensors-0.safetensors", "sha256": sha256(GOOD).hexdigest()},
    "name of another type": {"format": 1, "tensors": 3, "sha256": "", "state": None},
    "missing tensor": {"state": {"mapping": [["a", {"tensor": "t9"}]]}},
    "pairs of another length": {"state": {"mapping": [["a"]]}},
    "key that cannot be one": {"state": {"mapping": [[[], 1]]}},
    "mapping of a number": {"state": {"mapping": 3}},
    "empty object": {"state": {}},
    "dtype that is none": {"state": {"dtype": "no_such_thing"}},
    "another format": {"format": 2, "state": {"mapping": []}},
    "path out of the folder": {"tensors": "../other/tensors-0.safetensors", "state": {"mapping": []}},
    "a number for a state": {"state": 3},
    "too deep": '{"format": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "no JSON": "{",
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_checkpoint_of_someone_else_may_be_wrong_but_the_error_is_ours(forged, tmp_path):
    body = FORGED[forged]
    (tmp_path / "here").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "tensors-0.safetensors").write_bytes(GOOD)
    if isinstance(body, dict) and "state" in body and "sha256" not in body:
        body = {"format": 1, "tensors": "tensors-0.safetensors", "sha256": sha256(GOOD).hexdigest(), **body}
    forge(tmp_path / "here", body, b"something else" if "path" in forged else GOOD)
    with pytest.raises(CheckpointError, match=MANIFEST if "path" not in forged else "checksum differs"):
        load_checkpoint(tmp_path / "here")


def test_tensors_that_are_no_safetensors_are_named(tmp_path):
    digest = forge(tmp_path, {}, b"not safetensors")
    forge(
        tmp_path,
        {"format": 1, "tensors": "tensors-0.safetensors", "sha256": digest, "state": None},
        b"not safetensors",
    )
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(tmp_path)


# ------------------------------------------------------------------------ crashes


class Crash(Exception):  # noqa: N818
    pass


def crash_at(monkeypatch, moment):
    """Make the `moment`-th dangerous operation of a save the last one."""
    done = []

    def counted(real):
        def wrapper(*args, **kwargs):
            if len(done) == moment:
                raise Crash
            done.append(real.__name__)
            return real(*args, **kwargs)

        return wrapper

    from pathlib import Path

    monkeypatch.setattr(checkpoint.os, "fsync", counted(checkpoint.os.fsync))
    monkeypatch.setattr(Path, "replace", counted(Path.replace))
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))
    return done


def test_a_crash_at_any_moment_leaves_the_old_checkpoint_or_the_new_one(tmp_path, monkeypatch):
    old, new = {"x": torch.zeros(3), "round": 1}, {"x": torch.ones(3), "round": 2}
    found = []
    for moment in range(9):
        directory = tmp_path / str(moment)
        save_checkpoint(directory, old)
        with monkeypatch.context() as patch:
            crash_at(patch, moment)
            try:
                save_checkpoint(directory, new)
            except Crash:
                crashed = True
            else:
                crashed = False
        state = load_checkpoint(directory)
        assert same(state, old) or same(state, new)
        found.append((crashed, state["round"]))
        save_checkpoint(directory, {"x": torch.full((3,), 3.0), "round": 3})  # and the next save tidies up
        assert load_checkpoint(directory)["round"] == 3
        assert len(list(directory.iterdir())) == 2
    assert (True, 1) in found
    assert (True, 2) in found
    assert found[-1] == (False, 2)


def test_leftovers_are_ignored_and_cleared_away(tmp_path):
    save_checkpoint(tmp_path, STATE)
    (tmp_path / ".checkpoint.json.123.part").write_text("half a mani")
    (tmp_path / ".tensors-00.safetensors.9.part").write_bytes(b"half")
    (tmp_path / "tensors-ffffffffffffffff.safetensors").write_bytes(b"an orphan")
    (tmp_path / "notes.txt").write_text("not ours")
    assert same(load_checkpoint(tmp_path), STATE)
    save_checkpoint(tmp_path, {**STATE, "flag": False})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 3
    assert "notes.txt" in names


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a" / "b.txt"
    write_atomically(path, b"old")
    path.with_name("reader").hardlink_to(path)  # somebody who has the old file open
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "fsync", lambda fd: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            write_atomically(path, b"new content")
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.with_name("reader").read_bytes() == b"old"


def test_nothing_is_ever_unpickled(tmp_path, monkeypatch):
    import pickle

    def forbidden(*args, **kwargs):
        raise AssertionError("pickle was used")

    monkeypatch.setattr(pickle, "loads", forbidden)
    monkeypatch.setattr(pickle, "Unpickler", forbidden)
    monkeypatch.setattr(torch, "load", forbidden)
    save_checkpoint(tmp_path, STATE)
    assert same(load_checkpoint(tmp_path), STATE)


def test_what_a_crash_left_is_tidied_and_the_checkpoint_stays(tmp_path):
    save_checkpoint(tmp_path, {"round": 3, "x": torch.ones(2)})
    (tmp_path / "tensors-0123456789abcdef.safetensors").write_bytes(b"older")
    (tmp_path / ".checkpoint.json.7.part").write_bytes(b"half")
    tidy_checkpoint(tmp_path)
    assert load_checkpoint(tmp_path)["round"] == 3
    assert len(list(tmp_path.iterdir())) == 2

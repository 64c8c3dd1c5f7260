"""Checkpoints: safetensors for tensors, JSON for the rest; written aside, renamed, checksummed.

A checkpoint is a manifest, `checkpoint.json`, which names a file of tensors. The tensors are written first,
under a new name; the manifest is replaced last, in one rename. So at every moment a reader finds a whole
checkpoint: the old one or the new one. Nothing is ever unpickled: a checkpoint from someone else can be
wrong, but cannot run code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lianhe.core.errors import CheckpointError

MANIFEST = "checkpoint.json"

#: of what is written, so that a later version knows what it reads
_FORMAT = 1


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, finds the old content or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def save_checkpoint(directory: Path, state: Mapping[str, Any]) -> None:
    """Write a state (nested mappings, lists, numbers, strings and tensors) to a directory."""
    tensors: dict[str, Tensor] = {}
    plain = _encode(state, tensors)
    content = save(tensors)
    digest = sha256(content).hexdigest()
    name = f"tensors-{digest[:16]}.safetensors"
    write_atomically(directory / name, content)
    body = json.dumps({"format": _FORMAT, "tensors": name, "sha256": digest, "state": plain})
    manifest = json.dumps({"sha256": sha256(body.encode()).hexdigest(), "body": body})
    write_atomically(directory / MANIFEST, manifest.encode())
    _tidy(directory, name)


def tidy_checkpoint(directory: Path) -> None:
    """Remove what a crash left beside a whole checkpoint: older tensors, files that were being written."""
    _tidy(directory, Path(_read_manifest(directory / MANIFEST)["tensors"]).name)


def _tidy(directory: Path, current: str) -> None:
    for old in [*directory.glob("tensors-*.safetensors"), *directory.glob(".*.part")]:
        if old.name != current:
            old.unlink(missing_ok=True)


def load_checkpoint(directory: Path) -> dict[str, Any]:
    """Read a state that `save_checkpoint` wrote.

    Raises:
        CheckpointError: if there is none, if a byte of it changed, or if it is of another format.
    """
    path = directory / MANIFEST
    body = _read_manifest(path)
    try:
        if body["format"] != _FORMAT:
            raise CheckpointError(f"{path}: format {body['format']!r}; this version reads format {_FORMAT}")
        # A name, not a path: a manifest from someone else must not point out of its directory.
        tensors = _read_tensors(directory / Path(body["tensors"]).name, body["sha256"])
        return dict(_decode(body["state"], tensors))
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of lianhe ({error!r})") from error


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes())
        body: str = manifest["body"]
        intact = sha256(body.encode()).hexdigest() == manifest["sha256"]
        decoded: dict[str, Any] = json.loads(body)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no checkpoint here") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: the checkpoint's manifest is damaged ({error})") from error
    if not intact:
        raise CheckpointError(
            f"{path}: checksum differs; the manifest is damaged: restore it or start a new run"
        )
    return decoded


def _read_tensors(path: Path, digest: str) -> dict[str, Tensor]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: the checkpoint's tensors are missing ({error.strerror})") from error
    if sha256(content).hexdigest() != digest:
        raise CheckpointError(f"{path}: checksum differs; the file is damaged: restore it or start a new run")
    try:
        return load(content)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error})") from error


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Turn a state into JSON; mappings become lists of pairs: JSON would turn whole-number keys into text."""
    if isinstance(value, Tensor):
        name = f"t{len(tensors)}"
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"mapping": [[_plain(key), _encode(item, tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encode(item, tensors) for item in value]}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    return _plain(value)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise CheckpointError(
        f"a state may hold tensors, numbers, text, lists and mappings, not {type(value).__name__}"
    )


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dtype":
        return getattr(torch, content)
    if kind == "mapping":
        return {key: _decode(item, tensors) for key, item in content}
    items = [_decode(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items

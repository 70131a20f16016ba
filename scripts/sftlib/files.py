"""Files that appear whole or not at all, and the few readings that every room needs.

Every write goes to a temporary neighbour, is flushed to the disk (fsync) and then renamed over its goal, so a reader
or a killed process never meets half a file. JSON Lines are split at "\\n" only: U+2028 inside a string is text.

Worst bug: a half-written file under its final name (tests/test_files.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from .errors import MachineError

ROOT = Path(__file__).resolve().parents[2]  # of the project; scripts run from anywhere


@contextlib.contextmanager
def file_errors() -> Iterator[None]:
    """A full disk, a folder without permission, a file where a folder should be: an error with words."""
    try:
        yield
    except OSError as error:
        raise MachineError(
            f"A file cannot be read or written: {error.strerror or error}.",
            where=str(error.filename or ""),
            cure="Look at free space and permissions there, or choose another folder.",
        ) from error


@contextlib.contextmanager
def whole_file(path: str | Path, mode: str = "w") -> Iterator[IO]:
    """Open a temporary neighbour of `path` for writing; rename it over `path` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    options = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    try:
        with os.fdopen(handle, mode, **options) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    sync_folder(path.parent)


@contextlib.contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary neighbour of `path` to fill; rename it to `path` when the block ends without an error.

    Raises FileExistsError when `path` is there already: a folder is never silently replaced.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        raise FileExistsError(path)
    staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield staging
        for file in staging.rglob("*"):
            if file.is_file():
                os.chmod(file, 0o666 & ~_umask())  # safetensors writes for its owner alone
                sync_file(file)
        os.chmod(staging, 0o777 & ~_umask())
        os.rename(staging, path)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    sync_folder(path.parent)


def sweep(folder: str | Path) -> None:
    """Delete the temporary neighbours that killed writes left in a folder. Nobody else may be writing in it."""
    for path in Path(folder).glob(".*.tmp"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with whole_file(path) as stream:
        stream.write(text)


def append_text(path: str | Path, text: str) -> None:
    """Append `text` as UTF-8; a kill in the middle leaves a torn last line, so readers drop one."""
    with open(path, "a", encoding="utf-8", newline="\n") as stream:
        stream.write(text)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all. NaN and infinity are refused: they are not JSON."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def write_jsonl(path: str | Path, rows: Iterable[dict]) -> int:
    """Write one JSON object a line, whole or not at all; return how many."""
    count = 0
    with whole_file(path) as stream:
        for row in rows:
            stream.write(json_line(row))
            count += 1
    return count


def json_line(row: dict) -> str:
    """One row of a JSON Lines file, with its line end."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: str | Path) -> Any:
    """Read one UTF-8 JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def numbered_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its end) of a UTF-8 file, split at "\\n" only, blank lines left out."""
    with open(path, encoding="utf-8-sig", newline="\n") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield number, line.rstrip("\r\n")


def sha256_file(path: str | Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_text(text: str) -> str:
    """Hex digest of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def point_link(link: str | Path, target: str | Path) -> None:
    """Make `link` a relative symbolic link to `target`, replacing an older link in one step."""
    link, target = Path(link), Path(target)
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.exists() and not link.is_symlink():
        raise FileExistsError(link)
    temporary = link.parent / f".{link.name}.{os.getpid()}.tmp"
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    temporary.symlink_to(os.path.relpath(target.resolve(), link.parent.resolve()))
    os.replace(temporary, link)


def sync_file(path: str | Path) -> None:
    """Flush one file to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: str | Path) -> None:
    """Flush a folder's entries to the disk, so that a rename in it survives a power cut. Windows has no such call."""
    if os.name == "posix":
        sync_file(path)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current

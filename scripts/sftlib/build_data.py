"""Assembly of the data commands: takes the whole config, hands each chat room its section. No torch, unlike build.py.

    process(config, ["faq.csv"], "data/processed").show()

Worst bug: a key of the config that does not arrive (tests/chat/test_data_scripts.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from .chat import processing, style
from .chat.processing import ProcessReport
from .config.schema import Config
from .errors import MachineError


def process(config: Config, raw_paths: Sequence[str] | None = None, out_dir: str | None = None) -> ProcessReport:
    """Raw data to processed splits; paths that are not given are the config's."""
    asked = config.data.raw_path if not raw_paths else list(raw_paths)
    paths = [asked] if isinstance(asked, str) else asked
    with _file_errors():
        return processing.process(config.data, config.seed, paths, out_dir or config.data.processed_dir)


def put_style(config: Config, rule: str | None = None, mode: str | None = None) -> dict[str, tuple[int, int]]:
    """Processed splits to styled ones; for each the number of rows, and of changed ones."""
    given = {key: value for key, value in (("rule", rule), ("mode", mode)) if value is not None}
    section = config.data.style.model_copy(update=given)
    with _file_errors():
        return style.style_splits(section, config.data.processed_dir, config.data.style_dir)


@contextlib.contextmanager
def _file_errors() -> Iterator[None]:
    """A full disk, a folder without permission, a file where a folder should be: an error with words."""
    try:
        yield
    except OSError as error:
        raise MachineError(
            f"A file cannot be read or written: {error.strerror or error}.",
            where=str(error.filename or ""),
            cure="Look at free space and permissions there, or choose another folder.",
        ) from error

"""Assembly of the data commands: takes the whole config, hands each chat room its section. No torch, unlike build.py.

    process(config, ["faq.csv"], "data/processed").show()

Worst bug: a key of the config that does not arrive (tests/chat/test_data_scripts.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from .chat import processing, rendered_files, style
from .chat.model_files import read_model_template
from .chat.processing import ProcessReport
from .chat.rendered_files import RenderedCounts
from .chat.templates import choose_template
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


def require_splits(config: Config, source_kind: Literal["processed", "styled"]) -> None:
    """An error when a split that is to be rendered is missing."""
    rendered_files.require_splits(_folder_of(config, source_kind))


def render_splits(
    config: Config, source_kind: Literal["processed", "styled"], model_folder: str | Path
) -> dict[str, RenderedCounts]:
    """Processed or styled splits to the text of the model in `model_folder`; what became of each."""
    template = choose_template(config.data.template_path, *read_model_template(model_folder), kind=config.model.type)
    with _file_errors():
        return rendered_files.render_splits(_folder_of(config, source_kind), config.data.rendered_dir, template)


def _folder_of(config: Config, source_kind: str) -> str:
    return config.data.style_dir if source_kind == "styled" else config.data.processed_dir


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

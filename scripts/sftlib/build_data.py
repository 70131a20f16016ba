"""Assembly of the data commands: takes the whole config, hands each chat room its section. No torch, unlike build.py.

    process(config, ["faq.csv"], "data/processed").show()
    bring_up_to_date(config)        the same, where splits are missing or, of data.datasets, no more what they would be

Worst bug: a key of the config that does not arrive (tests/chat/test_data_scripts.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from . import console
from .chat import freshness, processing, rendered_files, style
from .chat.dealing import SPLITS
from .chat.model_files import read_model_template
from .chat.processing import ProcessReport
from .chat.rendered_files import RenderedCounts
from .chat.templates import choose_template
from .config.schema import Config
from .errors import DataError
from .files import file_errors
from .run.inputs import find_split
from .units import some

NAMED = 3  # changes that are named


def process(config: Config, raw_paths: Sequence[str] | None = None, out_dir: str | Path | None = None) -> ProcessReport:
    """Raw data to processed splits; paths that are not given are the config's."""
    with file_errors():
        return processing.process(config.data, config.seed, raw_paths, out_dir or config.data.processed_dir)


def bring_up_to_date(config: Config, into: str | None = None) -> bool:
    """Make the splits where none are there, and with data.datasets where they are old; whether any were made.

    into: another folder, so that nothing is written over. Splits that were edited by hand are used as they are, and so
    are those that data.train_path names.
    """
    if config.data.train_path is not None:
        return False
    found = freshness.look(config.data, config.seed, config.data.processed_dir)
    if found.edited:
        if config.data.datasets:
            console.warn(f"Used as edited by hand: {some(found.edited, NAMED)}. make process makes all splits anew.")
        return False
    if len(found.missing) == len(SPLITS):
        why = "The splits are made from the raw data."
    elif found.is_current:
        return False
    elif config.data.datasets and found.has_raw:
        gone = [f"{path} is gone" for path in found.missing]
        why = f"The splits are made anew: {some([*found.changes, *gone], NAMED)}."
    else:
        if found.raw_changes:
            console.warn(f"{some(found.raw_changes, NAMED)} since the splits were made. make process makes them anew.")
        return False
    if not found.has_raw:
        return False  # whoever reads the splits says that there are none
    console.note(why)
    process(config, out_dir=into).show()
    return True


def require_current(config: Config) -> None:
    """DataError when `bring_up_to_date` would make splits."""
    if config.data.train_path is not None:
        return
    found = freshness.look(config.data, config.seed, config.data.processed_dir)
    is_old = bool(config.data.datasets) and found.has_raw and not found.edited and not found.is_current
    if is_old or len(found.missing) == len(SPLITS):
        raise DataError(
            f"The splits are not those of now: {some([*found.changes, *found.missing], NAMED)}.",
            where=config.data.processed_dir, cure="make prepare, or make process", code="E308",
        )  # fmt: skip


def training_splits(config: Config) -> dict[str, Path]:
    """The files of the splits that a training reads. DataError when one is missing."""
    names = ("train",) if config.train.eval_strategy == "no" else ("train", "val")
    return {name: find_split(config.data, name) for name in names}


def put_style(config: Config, rule: str | None = None, mode: str | None = None) -> dict[str, tuple[int, int]]:
    """Processed splits to styled ones; for each the number of rows, and of changed ones."""
    given = {key: value for key, value in (("rule", rule), ("mode", mode)) if value is not None}
    section = config.data.style.model_copy(update=given)
    with file_errors():
        return style.style_splits(section, config.data.processed_dir, config.data.style_dir)


def require_splits(config: Config, source_kind: Literal["processed", "styled"]) -> None:
    """An error when a split that is to be rendered is missing."""
    rendered_files.require_splits(_folder_of(config, source_kind))


def render_splits(
    config: Config, source_kind: Literal["processed", "styled"], model_folder: str | Path
) -> dict[str, RenderedCounts]:
    """Processed or styled splits to the text of the model in `model_folder`; what became of each."""
    template = choose_template(config.data.template_path, *read_model_template(model_folder), kind=config.model.type)
    with file_errors():
        return rendered_files.render_splits(
            _folder_of(config, source_kind), config.data.rendered_dir, template, config.data.loss_on
        )


def _folder_of(config: Config, source_kind: str) -> str:
    return config.data.style_dir if source_kind == "styled" else config.data.processed_dir

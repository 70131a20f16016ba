"""Assembly of the examples: splits to what is trained on, for `make train`, `make prepare` and all that looks at rows.

    splits = prepare(config, text, {"train": path, "val": path})
    splits["train"].examples                    ExampleDataset
    splits["train"].lengths["faq"]              what the length policy did to the data set `faq`
    splits["train"].shares["faq"]               how much of it a pass takes

Each data set of a split is encoded and kept by itself (tokens/cache.py), so that another one beside it changes nothing;
then each is cut to its length, and those of the training split are mixed. A split without named data sets is one.

Worst bug: a key of a data set that holds for another one (tests/test_prepare.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from . import console
from .build import Text
from .chat.sets import SetRows, set_rows, sets_of
from .chat.stored import Row, StoredSplit, read_split, require_split
from .config.schema import Config, DatasetSection
from .errors import DataError
from .files import sha256_file
from .learn import processes
from .tokens import showing
from .tokens.cache import CacheKey, cached_examples
from .tokens.columns import Columns
from .tokens.dataset import ExampleDataset
from .tokens.examples import Example, Tally, tally
from .tokens.identity import tokenizer_digest
from .tokens.length import LengthPolicy, LengthReport, whole_lengths
from .tokens.making import Maker, within_lengths
from .tokens.mixing import MixedTable, Share, join_tables, mix
from .tokens.remarks import Remarks
from .tokens.table import ExampleTable


@dataclass(frozen=True)
class Encoded:
    """A split, encoded and not cut yet: its file and digest, and of each data set in it an example a row.

    bos_id: of the tokenizer, which a cut at the start keeps.
    """

    path: Path
    digest: str
    sets: dict[str, ExampleTable]
    bos_id: int | None = None

    @cached_property
    def examples(self) -> ExampleTable | MixedTable:
        """Those of all data sets, in order."""
        return join_tables(self.sets)[0] if len(self.sets) > 1 else next(iter(self.sets.values()))


@dataclass(frozen=True)
class Prepared:
    """A split, encoded: its file and digest, the examples, and by data set what became of it."""

    path: Path
    digest: str
    examples: ExampleDataset
    lengths: dict[str, LengthReport]
    shares: dict[str, Share]
    tally: Tally

    @property
    def stored(self) -> StoredSplit:
        """The rows as stored; they are read each time, as few need them."""
        return read_split(self.path)


def prepare(config: Config, text: Text, paths: Mapping[str, Path]) -> dict[str, Prepared]:
    """Encode splits, from the cache where nothing has changed, cut them, and mix the training split.

    Raises DataError when more rows than data.max_rejected hold nothing to train on, or when none is left.
    """
    return {name: cut_to_length(config, name, encode_split(config, text, name, path)) for name, path in paths.items()}


def encode_split(config: Config, text: Text, name: str, path: Path) -> Encoded:
    """Render and encode each data set of a split, or take it from the cache."""
    digest = sha256_file(require_split(path))
    sets = {}
    for rows in sets_of(path):
        with processes.first_goes_first():
            sets[rows.name] = _encode(config, text, path, rows)
        sets[rows.name].remarks.say("/".join(filter(None, (name, rows.name))))
    return Encoded(path, digest, sets, text.tokenizer.bos_token_id)


def examples_of(
    config: Config, text: Text, name: str, rows: Sequence[Row]
) -> tuple[list[Example], list[Example], LengthReport]:
    """What a few rows of a data set become, without the cache: before and after `drop` or `truncate`, and a report."""
    maker = _maker(config, text, name)
    remarks = Remarks()
    table = ExampleTable.made(maker.columns(rows, remarks, name), remarks)
    kept, report = within_lengths(table, maker.limits)
    return list(table), list(kept), report


def _maker(config: Config, text: Text, name: str) -> Maker:
    return Maker(
        text.template, text.tokenizer, limits_of(config, name, text.tokenizer.bos_token_id),
        options_of(config, name).loss_on, config.data.max_rejected, text.decoder_start,
    )  # fmt: skip


def _encode(config: Config, text: Text, path: Path, part: SetRows) -> ExampleTable:
    maker = _maker(config, text, part.name)

    def make(remarks: Remarks) -> Iterator[Columns]:
        return maker.columns(set_rows(path, part), remarks, f"{path.stem} {part.name}".strip())

    key = CacheKey(part.digest, text.template.identity, tokenizer_digest(text.stored.folder), maker.identity)
    return cached_examples(Path(config.train.output_dir) / ".cache", key, make)


def cut_to_length(config: Config, name: str, split: Encoded) -> Prepared:
    """Apply the length policies and mix. DataError when too many rows of a data set, or all, are lost."""
    cut = {one: within_lengths(table, limits_of(config, one, split.bos_id)) for one, table in split.sets.items()}
    for one, (examples, lengths) in cut.items():
        _require_rows(config, _in_words(name, one), split.path, examples, lengths)
    tables = {one: examples for one, (examples, _) in cut.items()}
    if name == "train" and config.data.datasets:
        for missing in config.data.datasets.keys() - tables.keys():
            console.warn(f"The data set {missing} has no rows in the train split.")
        sets = {one: config.data.datasets.get(one, DatasetSection()) for one in tables}
        examples, shares = mix(tables, sets, config.data.mixing, config.seed)
    else:
        examples, shares = join_tables(tables)
    lengths = {one: lengths for one, (_, lengths) in cut.items()}
    return Prepared(split.path, split.digest, ExampleDataset(examples), lengths, shares, tally(examples))


def options_of(config: Config, name: str) -> DatasetSection:
    """What holds for a data set of this name: its own keys, else the whole's."""
    own = config.data.datasets.get(name, DatasetSection())
    whole = {
        "max_seq_len": config.model.max_seq_len, "truncation": config.data.truncation, "loss_on": config.data.loss_on,
    }  # fmt: skip
    return own.model_copy(update={key: value for key, value in whole.items() if getattr(own, key) is None})


def limits_of(config: Config, name: str, bos_id: int | None) -> LengthPolicy:
    """How long an example of a data set may be, and what happens to longer ones."""
    options = options_of(config, name)
    longest = options.max_seq_len
    longest_target = (config.model.max_target_len or longest) if config.model.type == "seq2seq" else None
    return LengthPolicy(longest, options.truncation, config.data.truncation_side, longest_target, bos_id)


def _require_rows(config: Config, what: str, path: Path, examples: ExampleTable, lengths: LengthReport) -> None:
    if lengths.rows_without_supervision > config.data.max_rejected * lengths.rows:
        raise DataError(
            f"{lengths.rows_without_supervision} of {lengths.rows} rows of {what} have nothing to train on.",
            where=str(path), expected=f"at most {config.data.max_rejected:.0%} (data.max_rejected)",
            cure="Look at the rows: make check. Raise model.max_seq_len when their answers were cut off.", code="E306",
        )  # fmt: skip
    if not examples:
        raise DataError(
            f"No row of {what} fits: all {lengths.rows} are longer than {lengths.limit}.",
            where=str(path), cure="Raise model.max_seq_len, or set data.truncation to truncate or split.", code="E305",
        )  # fmt: skip


def _in_words(split: str, name: str) -> str:
    return f"the {split} split" + (f" of {name}" if name else "")


def show_examples(text: Text, prepared: Prepared) -> None:
    """Print real examples, supervised tokens coloured, and the share of supervised tokens."""
    showing.show_examples(prepared.examples.examples, prepared.tally, text.tokenizer)


def show_lengths(splits: Mapping[str, Prepared]) -> None:
    """Print what the length policies do to each data set of each split."""
    showing.show_lengths(
        {
            f"{name} {one}".strip(): lengths
            for name, prepared in splits.items()
            for one, lengths in prepared.lengths.items()
        }
    )


def show_histograms(config: Config, train: Encoded) -> None:
    """Print how long the rows of each data set of the training split are."""
    for name, table in train.sets.items():
        limits = limits_of(config, name, None)
        title = f"Tokens a row of {_in_words('train', name)}"
        showing.show_histogram(title, whole_lengths(table), limits.max_seq_len, limits.policy)


def show_shares(prepared: Prepared) -> None:
    """Print how much of each data set a pass takes; of a single one there is nothing to say."""
    if list(prepared.shares) != [""]:
        showing.show_shares(prepared.shares)

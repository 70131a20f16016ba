"""Assembly of `make prepare`: splits where they are missing or old, the examples of them, and both written down.

    found = standing(config)            metadata of what is prepared, None where it is not what would be made now
    found = make(config)                data/prepared/{train,val,test}.parquet and metadata.json
    show(found)

`standing` needs neither PyTorch nor the network: what is prepared says which model's folder it was made with.
Worst bug: old examples taken for those of now (tests/test_prepare.py).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import build_data, console
from .chat.cleaning import clean
from .chat.conversation import Conversation
from .chat.dealing import SPLITS
from .chat.formats import detect, to_conversation
from .chat.model_files import read_model_template
from .chat.raw_sets import RawSet, put_system, raw_sets
from .chat.readers import find_sources
from .chat.rows import RawRow, Rejected, RowError, clip, compact_json
from .chat.stored import iterate_split
from .chat.templates import choose_template
from .config.schema import Config
from .errors import SftError
from .files import read_json, sha256_file, sha256_text
from .run import prepared
from .run.inputs import find_split
from .run.stamp import versions
from .tokens.identity import code_version, tokenizer_digest
from .tokens.showing import pieces
from .units import percent, some

if TYPE_CHECKING:
    from .build import Text
    from .build_examples import Prepared
    from .tokens.examples import Example

GPUS = ("/dev/nvidia0", "/dev/dxg")  # of the driver, and of that in WSL; what model.name `auto` depends on
ELSEWHERE = ("processed_dir", "prepared_dir", "style_dir", "rendered_dir", "raw_path", "style", "encoding", "columns")
NAMED = 3  # changes that are named


def standing(config: Config) -> dict[str, Any] | None:
    """The metadata of what is prepared; None, after a note why, where it is not what would be made now."""
    folder = Path(config.data.prepared_dir)
    found = prepared.read(folder)
    if found is None:
        return None
    try:
        build_data.require_current(config)
        now = _made_of(config, Path(found["model"]["folder"]), _paths(config))
    except (SftError, OSError, LookupError, TypeError) as error:
        console.note(f"Prepared anew. {getattr(error, 'seen', error)}")
        return None
    changes = prepared.changes(folder, now)
    if changes:
        console.note(f"Prepared anew: {some(changes, NAMED)}.")
    return found if changes == [] else None


def make(config: Config, *, dry_run: bool = False) -> dict[str, Any]:
    """Make all that is missing, write it, and return its metadata; a dry run keeps nothing but the token cache."""
    with contextlib.ExitStack() as stack:
        console.stage("The rows")
        if dry_run:
            config = stack.enter_context(_elsewhere(config))
        else:
            build_data.bring_up_to_date(config)
        paths = _paths(config)

        console.stage("Their tokens")
        from . import build, build_examples

        text = build.load_text(config)
        console.note(f"Model {text.stored.name} in {text.stored.folder}; template: {text.template.origin}.")
        encoded = {name: build_examples.encode_split(config, text, name, path) for name, path in paths.items()}
        if dry_run:
            build_examples.show_histograms(config, encoded["train"])
        splits = {name: build_examples.cut_to_length(config, name, one) for name, one in encoded.items()}
        build_examples.show_lengths(splits)
        return _write(config, text, splits, dry_run=dry_run)


def show(found: Mapping[str, Any]) -> None:
    """Print what is prepared: by split and data set, and the mix of a pass."""
    rows, shares = [], []
    for split, of_split in found["splits"].items():
        for name, one in of_split["sets"].items():
            lengths, share = one["lengths"], one["share"]
            rows.append(
                (split, name or "-", lengths["rows"], share["taken"], share["tokens"],
                 percent(share["supervised"], share["tokens"]), lengths["supervised_tokens_lost"])
            )  # fmt: skip
            if split == "train":
                shares.append((name, share["rows"], share["taken"], one["of_examples"], one["of_tokens"]))
    headers = ("split", "data set", "rows", "examples", "tokens", "supervised", "supervised tokens lost")
    console.table("Prepared", headers, rows)
    if len(shares) > 1:
        headers = ("data set", "examples", "taken a pass", "of the examples", "of the tokens")
        console.table("The mix", headers, shares)


def show_rows(config: Config, count: int) -> None:
    """Print the first rows of each data set on their way: raw, read, cleaned, rendered, as tokens, cut."""
    from . import build, build_examples

    text = build.load_text(config)
    for raw_set in raw_sets(config.data):
        sources, _ = find_sources(raw_set.paths, config.data.encoding, raw_set.key)
        rows = itertools.chain.from_iterable(source.read(None) for source in sources)
        console.stage(f"The data set {raw_set.name}" if raw_set.name else "The raw data")
        for row in itertools.islice(rows, count):
            console.result(f"\n{row.source}")
            if isinstance(row, Rejected):
                console.result(f"rejected   {row.reason}: {row.detail}\n{row.seen}")
                continue
            console.result(f"raw        {clip(compact_json(row.value))}")
            conversation = read_row(config, raw_set, row)
            if conversation is None:
                continue
            for message in conversation.messages:
                flag = "" if message.is_trained else " (train: false)"
                console.result(f"{message.role:<10} {message.content}{flag}")
            show_tokens(build_examples.examples_of(config, text, raw_set.name, [conversation])[1], text)


def read_row(config: Config, raw_set: RawSet, row: RawRow) -> Conversation | None:
    """What `make process` makes of a row, said; None where that is nothing."""
    try:
        format = detect(row.value, raw_set.columns)
        conversation, changes = clean(to_conversation(row.value, format, row.source, raw_set.name))
    except RowError as error:
        console.result(f"rejected   {error}")
        return None
    why = format.reason if format.reason.startswith(format.name) else f"{format.name}: {format.reason}"
    console.result(f"read as    {why}")
    if changes:
        console.result(f"repaired   {', '.join(changes)}")
    if unused := format.left_out(row.value):
        console.result(f"left out   {', '.join(unused)}")
    return put_system(conversation, raw_set, config.seed)


def show_tokens(examples: Sequence[Example], text: Text) -> None:
    """Print examples, what is trained coloured."""
    if not examples:
        console.result("tokens     none: the row is left out, as it is too long or nothing of it is trained")
    for example in examples:
        cut = "" if example.is_complete else ", cut off"
        console.result(f"tokens     {example.source}: {len(example.input_ids)}, {example.supervised} trained{cut}")
        console.coloured((text.tokenizer.decode(ids), trained) for ids, trained in pieces(example))


def _write(config: Config, text: Text, splits: Mapping[str, Prepared], *, dry_run: bool) -> dict[str, Any]:
    from .tokens.parquet import write_parquet

    folder = Path(config.data.prepared_dir)
    files = [folder / f"{name}.parquet" for name in splits]
    report = {
        "model": {
            "name": text.stored.name, "folder": str(text.stored.folder), "revision": text.stored.revision,
            "template": text.template.origin,
        },
        "versions": versions(),
        "splits": {name: _of_split(one) for name, one in splits.items()},
        "process": _process_report(config),
    }  # fmt: skip
    if dry_run:
        return report | {"files": dict.fromkeys(map(str, files))}
    for path, one in zip(files, splits.values(), strict=True):
        write_parquet(path, one.examples.examples, path.stem)
    paths = {name: one.path for name, one in splits.items()}
    prepared.write(folder, made_of=_made_of(config, text.stored.folder, paths), files=files, report=report)
    return prepared.read(folder)


def _of_split(one: Prepared) -> dict[str, Any]:
    taken, tokens = len(one.examples), one.tally.tokens
    sets = {
        name: {
            "lengths": asdict(one.lengths[name]), "share": asdict(share),
            "of_examples": percent(share.taken, taken), "of_tokens": percent(share.tokens, tokens),
        }
        for name, share in one.shares.items()
    }  # fmt: skip
    return {"examples": taken, "tokens": tokens, "supervised_tokens": one.tally.supervised, "sets": sets}


def _made_of(config: Config, model: Path, paths: Mapping[str, Path]) -> dict[str, Any]:
    """All that the examples depend on."""
    template = choose_template(config.data.template_path, *read_model_template(model), kind=config.model.type)
    data = config.data.model_dump()
    return {
        "model": config.model.model_dump(include={"name", "revision", "type", "max_seq_len", "max_target_len"})
        | {"gpu": any(map(os.path.exists, GPUS)) if config.model.name == "auto" else None},
        "seed": config.seed,
        "data": {key: value for key, value in data.items() if key not in ELSEWHERE},
        "template": sha256_text(template.identity), "tokenizer": tokenizer_digest(model), "code": code_version(),
        "splits": {name: sha256_file(path) for name, path in paths.items()},
    }  # fmt: skip


def _paths(config: Config) -> dict[str, Path]:
    """The splits that there are; the one for training must be, and what is empty is none."""
    paths = {"train": find_split(config.data, "train")}
    for name in SPLITS[1:]:
        with contextlib.suppress(SftError):
            path = find_split(config.data, name)
            if next(iterate_split(path), None) is not None:
                paths[name] = path
    return paths


def _process_report(config: Config) -> Any:
    """What `make process` counted, where it made the splits."""
    path = Path(config.data.processed_dir) / "report.json"
    return read_json(path) if path.is_file() and config.data.train_path is None else None


@contextlib.contextmanager
def _elsewhere(config: Config) -> Iterator[Config]:
    """The config with splits that are made in a folder that goes away, where they would have to be made."""
    with tempfile.TemporaryDirectory() as folder:
        moved = config.model_copy(update={"data": config.data.model_copy(update={"processed_dir": folder})})
        yield moved if build_data.bring_up_to_date(config, into=folder) else config

"""Assembly of `make why`: the life of one row, the worst rows of a run, and the blocklist made of them.

    tell(config, "faq.jsonl:17", run=None)      raw row, what became of it, its tokens, its loss each time it was seen
    show_worst(config, run=None)                the rows whose loss was furthest above the usual one
    block(config, run=None, row=None, out=None) sources and reasons into the file of data.blocklist

Nothing is kept from the training for the first three chapters: the row is taken through the same code again.

Worst bug: another row's life told (tests/test_why.py).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import console
from .build_prepared import read_row, show_tokens
from .chat.blocklist import add_to_blocklist
from .chat.dealing import SPLITS
from .chat.lookup import LEFT_OUT, Place, equal_rows, find_rows, raw_row
from .chat.provenance import row_of
from .chat.raw_sets import RawSet, raw_sets
from .chat.rows import Rejected, clip, to_text
from .chat.stored import stored_row
from .config.schema import Config
from .errors import DataError, SftError
from .files import numbered_lines, read_json, sha256_file
from .run.folder import RunFolder
from .run.inputs import find_split
from .run.seen import find_seen, read_seen, times_seen
from .run.suspects import rows_of_run, suspects, times

BLOCKLIST = "data/blocklist.txt"  # where the config names none
SHOWN = 20  # rows of the list of the worst
TEXT = 42  # characters of an answer beside them: a line of the table each


# -- One row ----------------------------------------------------------------------------------------------------------


def tell(config: Config, called: str, run: str | None) -> None:
    """Print the life of one row, in the order in which it happened."""
    rejected = Path(config.data.processed_dir) / "rejected.jsonl"
    files = _splits(config) | ({LEFT_OUT: rejected} if rejected.is_file() else {})
    places = find_rows(files, called)
    source = row_of(places[0].source)
    _tell_raw(config, source, places)
    _tell_places(places, equal_rows(rejected, source))
    kept = [place for place in places if place.split != LEFT_OUT]
    if kept:
        _tell_tokens(config, kept)
        _tell_losses(config, kept, find_seen(Path(config.train.output_dir), run))


def _tell_raw(config: Config, source: str, places: Sequence[Place]) -> None:
    _chapter(f"The raw row: {source}")
    if any(place.where == source for place in places):
        console.result("It has no other: this line of the split was written by hand, or by another program.")
        return
    row = raw_row(source, config.data.encoding)
    if row is None:
        console.result("It cannot be read again: its file is not here, or has no such row any more.")
        return
    if isinstance(row, Rejected):
        console.result(f"{row.reason}: {row.detail}\n{row.seen}")
        return
    for name, value in row.value.items():
        console.result(f"{name}: {to_text(value)}")
    read_row(config, _set_of(config, places[0], source), row)


def _set_of(config: Config, place: Place, source: str) -> RawSet:
    """The data set that a row is of: by its name, or, where it was left out, by its file."""
    sets, file = raw_sets(config.data), Path(source.rpartition(":")[0])
    named = [one for one in sets if one.name == place.row.get("dataset", "")]
    there = [one for one in sets if any(path in (file, *file.parents) for path in map(Path, one.paths))]
    return (named or there or sets)[0]


def _tell_places(places: Sequence[Place], equal: Sequence[str]) -> None:
    _chapter("What became of it")
    for place in places:
        if place.split == LEFT_OUT:
            console.result(f"Left out ({place.where}): {place.row['reason']}. {place.row.get('detail', '')}".rstrip())
        else:
            named = f", data set {place.row['dataset']}" if place.row.get("dataset") else ""
            console.result(f"In the {place.split} split{named}: {place.where}")
    if equal:
        console.result(f"Equal to it, and left out for that: {', '.join(equal)}")


def _tell_tokens(config: Config, places: Sequence[Place]) -> None:
    from . import build, build_examples

    try:
        text = build.load_text(config)
    except SftError as error:
        _chapter("Its tokens")
        console.result(f"They cannot be shown: {error.seen}")
        return
    for place in places:
        _chapter(f"Its tokens: {place.where}")
        row = stored_row(json.dumps(place.row), place.where)
        try:
            whole, kept, report = build_examples.examples_of(config, text, place.row.get("dataset", ""), [row])
        except DataError as error:
            console.result(f"It is not trained: {error.seen}")
            continue
        show_tokens(kept or whole, text)
        for loss in report.losses() or [f"whole, as it has no more than {report.limit}."]:
            console.result(f"Length: {loss}")


def _tell_losses(config: Config, places: Sequence[Place], run: RunFolder | None) -> None:
    if run is None:
        _chapter("Its losses")
        console.result("No run has seen it yet: make train")
        return
    sources = {row_of(place.source) for place in places}
    sights, steps = times_seen(read_seen(run), lambda source: row_of(source) in sources)
    _chapter(f"Its losses in the run {run.name}: seen {times(len(sights))} in {steps} steps")
    rows = [
        (sight.step, sight.row.source, sight.row.loss, sight.loss, f"{sight.place} of {sight.rows}", sight.row.tokens)
        for sight in sights
    ]
    if not any(place.split == "train" for place in places):
        console.result(f"It is not trained now, as the {places[0].split} split is not.")
    if rows:
        console.table("", ("step", "row", "loss a token", "of the step", "worst", "tokens"), rows)
    if _is_of_other_rows(config, run):
        console.warn(f"The train split has changed since the run {run.name}: a row of now may have another's name.")


# -- The rows of a run ------------------------------------------------------------------------------------------------


def show_worst(config: Config, run: str | None) -> None:
    """Print the rows whose loss was furthest above the usual one, with the beginning of their last answer."""
    found = _run(config, run)
    rows, limit = rows_of_run(found)
    answers = _answers(config, {row_of(row.source) for row in rows[:SHOWN]})
    table = [
        (
            row.source, row.times, row.tokens, row.loss, row.usual, row.excess, "yes" if row.excess > limit else "",
            answers.get(row_of(row.source), ""),
        )
        for row in rows[:SHOWN]
    ]  # fmt: skip
    console.table(
        f"The worst rows of the run {found.name}, of {len(rows)}",
        ("row", "seen", "tokens", "loss", "usual", "excess", "stands out", "answer"), table,
    )  # fmt: skip
    console.note("A row's life: make why ROW=...; leave those that stand out, and those of spikes, out: make blocklist")


def block(config: Config, run: str | None, row: str | None, out: str | None) -> None:
    """Add rows to the blocklist: the one that is named, or those that stand out in a run."""
    path = Path(out or config.data.blocklist or BLOCKLIST)
    if row is None:
        found = _run(config, run)
        reasons = {}
        for source, why in suspects(found).items():
            reasons.setdefault(row_of(source), why)
        if not reasons:
            console.note(f"No row stands out in the run {found.name}; nothing is written.")
            return
    else:
        source = row_of(find_rows(_splits(config), row)[0].source)
        reasons = {source: "named by hand"}
    new = add_to_blocklist(path, reasons)
    for source in new:
        console.result(f"{source}  {reasons[source]}")
    known = len(reasons) - len(new)
    console.note(f"{len(new)} rows added to {path}" + (f"; {known} were there, or have no line." if known else "."))
    if str(path) != config.data.blocklist:
        console.note(f"To leave them out: data.blocklist: {path} in the config, then make process")


def _run(config: Config, name: str | None) -> RunFolder:
    root = Path(config.train.output_dir)
    run = find_seen(root, name)
    if run is None:
        raise DataError(
            "No run has losses of rows yet.", where=str(root), expected="seen.jsonl in the folder of a run",
            cure="make train",
        )  # fmt: skip
    return run


def _answers(config: Config, sources: set[str]) -> dict[str, str]:
    """The end of the stored text of these rows, in the train split."""
    found: dict[str, str] = {}
    with contextlib.suppress(SftError):
        path = find_split(config.data, "train")
        for number, line in numbered_lines(path):
            row = _parsed(line)
            source = row.get("source", f"{path.as_posix()}:{number}")
            if source in sources:
                last = row["messages"][-1]["content"] if "messages" in row else row.get("assistant", row.get("target"))
                found[source] = clip(" ".join(str(last).split()))[:TEXT]
    return found


def _parsed(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def _splits(config: Config) -> dict[str, Path]:
    """The splits that are there."""
    found = {}
    for name in SPLITS:
        with contextlib.suppress(SftError):
            found[name] = find_split(config.data, name)
    return found


def _is_of_other_rows(config: Config, run: RunFolder) -> bool:
    """Whether the training split is another one than that of the run."""
    with contextlib.suppress(SftError, OSError, ValueError, LookupError):
        return read_json(run.stamp)["data"]["train"] != sha256_file(find_split(config.data, "train"))
    return False


def _chapter(title: str) -> None:
    console.result(f"\n== {title}")

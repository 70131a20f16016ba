"""Assembly of `make analyze`: processed splits to one dict of findings and numbers, and from it tables and page.

    analysis = analyze(config, with_tokens=True)
    show(analysis)                                   -> two screens on the terminal
    write(analysis, folder_of(config))               -> outputs/analysis/report.html and report.json

The page and the terminal show nothing that is not in the dict, so that their numbers agree. Tokens are those of
training: the same encoding, from the same cache. Where there is no tokenizer, words are counted, and that is said.

Worst bug: a number on the page that is not the data's (tests/test_analyze.py).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import console
from .chat.quality.kinds import GROUPS, KINDS
from .chat.quality.survey import Survey, look
from .chat.splitting import SPLITS
from .chat.stored import iterate_split
from .config.schema import Config
from .errors import DataError, ModelError, UsageError
from .files import write_json, write_text
from .report import page, summary
from .run.inputs import find_split

NAMELESS = "(the data)"  # where there is one data set without a name


def folder_of(config: Config) -> Path:
    """Where the report is written."""
    return Path(config.train.output_dir) / "analysis"


def analyze(config: Config, *, with_tokens: bool = True) -> dict[str, Any]:
    """Everything about the splits that are there; the training split must be."""
    paths = _splits(config)
    survey = look(paths, config.data.near_duplicates)
    analysis = _described(config, survey, paths)
    if with_tokens:
        try:
            _add_tokens(analysis, config, survey, paths)
        except ModelError as error:
            console.warn(f"Words are counted instead of tokens, as there is no tokenizer: {error}")
            _add_words(analysis, survey, str(error.seen))
    else:
        _add_words(analysis, survey, "--no-tokens was asked for")
    analysis["seconds"] = {stage: round(seconds, 2) for stage, seconds in survey.seconds.items()}
    return analysis


def show(analysis: dict[str, Any]) -> None:
    """The tables."""
    summary.show(analysis)


def write(analysis: dict[str, Any], folder: Path) -> Path:
    """The page and the numbers; the page's path."""
    write_json(folder / "report.json", analysis)
    write_text(folder / "report.html", page.render(analysis))
    return folder / "report.html"


def parse_groups(text: str) -> list[str]:
    """`leaks,duplicates` as a list. UsageError for a name that nobody knows."""
    groups = [name.strip() for name in text.split(",") if name.strip()]
    for name in groups:
        if name not in GROUPS and name not in KINDS:
            raise UsageError(
                f"`{name}` is no kind of finding.", where="--fail-on",
                expected=f"some of {', '.join(GROUPS)}, or kinds of them: {', '.join(KINDS)}",
            )  # fmt: skip
    return groups


def refuse(analysis: dict[str, Any], groups: Sequence[str]) -> None:
    """DataError when something of these groups or kinds was found."""
    found = [one for one in analysis["findings"] if one["group"] in groups or one["kind"] in groups]
    if found:
        raise DataError(
            "; ".join(f"{one['title']}: {one['rows']}" for one in found) + ".", where="--fail-on",
            expected=f"nothing of {', '.join(groups)}", cure="Do what the report says of them.",
        )  # fmt: skip


def _splits(config: Config) -> dict[str, Path]:
    """The splits that hold a row. DataError when that of training is missing."""
    paths = {}
    for name in SPLITS:
        try:
            path = find_split(config.data, name)
        except DataError:
            if name == "train":
                raise
            console.note(f"There is no {name} split.")
            continue
        if name == "train" or any(True for _ in iterate_split(path)):
            paths[name] = path
        else:
            console.note(f"{path} is empty.")
    return paths


# -- What the texts say ----------------------------------------------------------------------------------------------


def _described(config: Config, survey: Survey, paths: dict[str, Path]) -> dict[str, Any]:
    rows = survey.rows.total()
    found = {one.kind for one in survey.findings} | {style.kind for style in survey.styles}
    sizes = Counter({split: sum(n for (of, _), n in survey.rows.items() if of == split) for split in paths})
    unseen = {kind: known for kind, known in KINDS.items() if kind not in found}
    return {
        "made": time.strftime("%Y-%m-%d %H:%M"),
        "project": config.run_name or Path(paths["train"]).parent.as_posix(),
        "rows": rows,
        "splits": [
            {"name": split, "path": path.as_posix(), "rows": sizes[split]} for split, path in paths.items()
        ],
        "sets": [_set(survey, name, rows) for name in dict.fromkeys(name for _, name in survey.rows)],
        "findings": [asdict(one) | {"by_set": _named(one.by_set)} for one in survey.findings],
        "styles": [asdict(one) | {"dataset": one.dataset or NAMELESS} for one in survey.styles],
        "not_found": [{"kind": kind, "group": known.group, "title": known.title} for kind, known in unseen.items()],
        "near_duplicates": config.data.near_duplicates,
        "languages": _counted(survey.languages, "code", rows),
        "turns": sorted(_counted(survey.turns, "turns", rows), key=lambda one: one["turns"]),
    }  # fmt: skip


def _set(survey: Survey, name: str, rows: int) -> dict[str, Any]:
    own = {split: n for (split, of), n in survey.rows.items() if of == name}
    languages = Counter({code: n for (of, code), n in survey.languages.items() if of == name and code})
    turns = {turns: n for (of, turns), n in survey.turns.items() if of == name}
    total = sum(own.values())
    return {
        "name": name or NAMELESS, "rows": total, "share": total / rows, "by_split": own,
        "languages": dict(languages.most_common(3)),
        "turns": round(sum(turns * n for turns, n in turns.items()) / total, 2),
    }  # fmt: skip


def _counted(counts: Counter[tuple[str, Any]], name: str, rows: int) -> list[dict[str, Any]]:
    sums: Counter[Any] = Counter()
    for (_, value), count in counts.items():
        sums[value] += count
    return [{name: value, "rows": count, "share": count / rows} for value, count in sums.most_common()]


def _named(by_set: dict[str, int]) -> dict[str, int]:
    return {name or NAMELESS: rows for name, rows in by_set.items()}


# -- How long they are -----------------------------------------------------------------------------------------------


def _add_words(analysis: dict[str, Any], survey: Survey, why: str) -> None:
    import numpy as np

    lengths = {key: (np.array(rows), np.array(answers)) for key, (rows, answers) in survey.words.items()}
    _add_lengths(analysis, "words", lengths)
    analysis["why_words"], analysis["limits"] = why, None


def _add_tokens(analysis: dict[str, Any], config: Config, survey: Survey, paths: dict[str, Path]) -> None:
    from . import build, build_examples
    from .build_limits import limits

    uncut = _uncut(config)
    with survey.timed("tokens"):
        text = build.load_text(config, with_weights=False)
        tables = {
            (split, name): table
            for split, path in paths.items()
            for name, table in build_examples.encode_split(uncut, text, split, path).sets.items()
        }
    _add_lengths(analysis, "tokens", {key: (table.lengths, table.supervised) for key, table in tables.items()})
    analysis["why_words"], analysis["limits"] = "", None
    if config.model.type == "seq2seq":
        console.note("Lengths are of input and answer together; each has a limit of its own, and none is suggested.")
        return
    # That of the model whose tokens were counted: on the card that memory is estimated for, `auto` is another one.
    model = config.model.model_copy(update={"name": str(text.stored.folder), "revision": None})
    with survey.timed("limits"):
        own = config.model_copy(update={"model": model})
        analysis["limits"] = limits(own, [table for (split, _), table in tables.items() if split == "train"])


def _uncut(config: Config) -> Config:
    """The config without what shortens a row before its length is known."""
    sets = {name: one.model_copy(update={"truncation": "drop"}) for name, one in config.data.datasets.items()}
    data = config.data.model_copy(update={"truncation": "drop", "datasets": sets})
    return config.model_copy(update={"data": data})


def _add_lengths(analysis: dict[str, Any], unit: str, lengths: dict[tuple[str, str], tuple[Any, Any]]) -> None:
    """Numbers of all splits and of each data set; lengths: of rows and of what is supervised in them."""
    import numpy as np

    from .tokens.limits import histogram, shares_histogram, spread

    def joined(keys: list[tuple[str, str]]) -> tuple[Any, Any]:
        return tuple(np.concatenate([lengths[key][part] for key in keys]) for part in (0, 1))

    def described(rows: Any, answers: Any) -> dict[str, Any]:
        return {"rows": spread(rows), "answers": spread(answers), "rest": spread(rows - answers)}

    rows, answers = joined(list(lengths))
    share = int(answers.sum()) / max(1, int(rows.sum()))
    analysis["unit"] = unit
    analysis["lengths"] = described(rows, answers)
    analysis["histogram"] = histogram(rows)
    analysis["supervised"] = {
        "of": int(rows.sum()), "supervised": int(answers.sum()), "share": share,
        "by_row": shares_histogram(answers / np.maximum(rows, 1)),
    }  # fmt: skip
    for one in analysis["sets"]:
        keys = [key for key in lengths if key[1] == ("" if one["name"] == NAMELESS else one["name"])]
        one["lengths"] = described(*joined(keys)) if keys else None

"""Assembly of `make augment`: takes the whole config and the options, hands each room its part. No torch.

    augment(config, ["faq.csv"], "data/raw/more.jsonl", Options(system=["Be brief."]))

Worst bug: an option that does not arrive (tests/chat/augmentation/test_augment_script.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from . import console
from .chat.augmentation.answers import AnswerStore
from .chat.augmentation.augmenting import AugmentReport, augment_rows
from .chat.augmentation.endpoint import Endpoint
from .chat.augmentation.operations import CHANGED, CHOSEN, CUT, IN_ANSWER, SHARED, Operations
from .chat.augmentation.pools import read_pool
from .chat.augmentation.rewriting import Style
from .chat.augmentation.turns import FOLLOW_UPS, characters, words
from .chat.readers import find_sources
from .config.schema import Config
from .errors import UsageError
from .files import file_errors, write_json
from .model.store import is_offline


@dataclass(frozen=True)
class Options:
    """The options of scripts/augment.py, by their names."""

    share: Sequence[str] = ()
    tags: str = "keep"
    structure: bool = False
    split_words: int | None = None
    split_characters: int | None = None
    follow_up: Sequence[str] = ()
    system: Sequence[str] = ()
    system_mode: str = "only_if_missing"
    copies: int = 0
    persona: Sequence[str] = ()
    guard: int = 0
    endpoint: str | None = None
    model: str | None = None
    instruction: str | None = None
    temperature: float = 0.0
    max_tokens: int | None = None
    key_env: str = "OPENAI_API_KEY"
    workers: int = 4
    retries: int = 5
    timeout: float = 120.0
    limit: int | None = None
    max_failed: float = 0.05

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """Out of a parsed command line."""
        return cls(**{one.name: given[one.name] for one in fields(cls)})


def augment(config: Config, inputs: Sequence[str], out: str, options: Options) -> AugmentReport:
    """Augment the rows of `inputs` into `out`, and write the report beside it."""
    asked = _operations(config.seed, options)
    raw = config.data.raw_path
    inputs = list(inputs) or ([raw] if isinstance(raw, str) else raw)
    sources, skipped = find_sources(inputs, config.data.encoding)
    goal = Path(out)
    if any(source.path is not None and source.path.resolve() == goal.resolve() for source in sources):
        raise UsageError("The output is one of the inputs.", where=out, cure="Give another file by --out.")
    for path, why in skipped:
        console.warn(f"{path} was left out: {why}.")
    rows = {"sources": sources, "columns": config.data.columns, "max_rejected": config.data.max_rejected}
    with file_errors():
        if asked.style is None:
            report = augment_rows(asked, goal, **rows)
        else:
            endpoint = None if is_offline() else _endpoint(options)
            with AnswerStore(Path(config.train.output_dir) / "answers.sqlite") as store:
                report = augment_rows(
                    asked, goal, **rows, store=store, endpoint=endpoint, limit=options.limit,
                    max_failed=options.max_failed,
                )  # fmt: skip
        write_json(report_path(goal), {"inputs": inputs, "seed": asked.seed, **asdict(report)})
    return report


def report_path(out: Path) -> Path:
    """The report's place beside its rows: `more.report.json` for `more.jsonl`."""
    return out.with_name(f"{out.stem}.report.json")


def show(report: AugmentReport) -> None:
    """Print what became of the rows."""
    for one in report.examples:
        console.warn(f"A row cannot be used: {one}")
    table = [("read", report.read), *((f"rejected: {why}", count) for why, count in report.rejected.items())]
    for what, count in (
        ("left out for their tags", report.left_out), ("copies", report.copies), ("guard rows", report.guards),
    ):  # fmt: skip
        table += [(what, count)] if count else []
    console.table("Rows", ["what", "rows"], [*table, ("written", report.written)])
    done = [
        (
            name,
            *(of.get(what, 0) for what in MAIN),
            ", ".join(f"{n} {what}" for what, n in of.items() if what not in MAIN),
        )
        for name in SHARED
        if (of := report.operations.get(name))
    ]
    if done:
        console.table("Operations", ["operation", *MAIN, "besides"], done)
    tags = report.operations.get("tags", {})
    if tags:
        console.note(f"Rows with chat tags: {', '.join(f'{count} {what}' for what, count in tags.items())}.")
    if kept := tags.get(IN_ANSWER, 0) - tags.get(CUT, 0) - report.left_out:
        console.warn(
            f"Rows whose answers hold literal chat tags, kept: {kept}. They teach a model to write them; take --tags "
            "remove or drop."
        )
    if (asked := report.asked) is not None:
        failed = ", ".join(f"{count} {why}" for why, count in asked.failed.items())
        row = (asked.needed, asked.known, asked.sent, asked.failures, asked.left, failed or "-")
        console.table("Answers asked for", ["needed", "in the store", "sent", "failed", "left", "because"], [row])


MAIN = (CHOSEN, CHANGED)


def _operations(seed: int, options: Options) -> Operations:
    """What the options ask for. UsageError for what does not go together."""
    numbers = {
        "--copies": options.copies, "--guard": options.guard, "--retries": options.retries, "--limit": options.limit,
        "--split_words": options.split_words, "--split_characters": options.split_characters,
        "--workers": options.workers, "--max_tokens": options.max_tokens, "--timeout": options.timeout,
    }  # fmt: skip
    may_be_zero = ("--copies", "--guard", "--retries", "--limit")
    for name, number in numbers.items():
        if number is not None and (number < 0 or (number == 0 and name not in may_be_zero)):
            least = 0 if name in may_be_zero else 1
            raise UsageError(f"{name} is {number}.", expected=f"{least} or more", cure="Correct the number.")
    if not (0 <= options.max_failed <= 1 and 0 <= options.temperature <= 2):
        raise UsageError(
            f"--max_failed is {options.max_failed:g} and --temperature {options.temperature:g}.",
            expected="0 to 1 for the one, 0 to 2 for the other", cure="Correct the number.",
        )  # fmt: skip
    if options.split_words and options.split_characters:
        raise UsageError("--split_words and --split_characters are two sizes for one thing.", cure="Give one of them.")
    asked = Operations(
        seed=seed,
        shares=dict(_share(one) for one in options.share),
        tags=options.tags,
        style=_style(options),
        structure=options.structure,
        split_over=options.split_words or options.split_characters,
        size=characters if options.split_characters else words,
        follow_ups=read_pool("--follow_up", options.follow_up) or FOLLOW_UPS,
        systems=read_pool("--system", options.system),
        system_mode=options.system_mode,
        copies=options.copies,
        personas=read_pool("--persona", options.persona),
        guard=options.guard,
    )
    if not asked.does_anything:
        raise UsageError(
            "Nothing is to be done.",
            expected="one or more of --system, --persona, --split_words, --structure, --endpoint, --tags, --guard",
            cure="See: python scripts/augment.py --help",
        )
    return asked


def _share(given: str) -> tuple[str, float]:
    name, _, number = given.partition("=")
    try:
        return name, float(number)
    except ValueError:
        raise UsageError(f"--share {given} says no share.", expected="OPERATION=NUMBER, such as persona=0.3") from None


def _style(options: Options) -> Style | None:
    given = {"--endpoint": options.endpoint, "--model": options.model, "--instruction": options.instruction}
    missing = [name for name, value in given.items() if not (value or "").strip()]
    if len(missing) == len(given):
        return None
    if missing:
        raise UsageError(
            f"To have answers said anew {' and '.join(missing)} must be given too.",
            cure='Such as: --endpoint http://localhost:8000/v1 --model NAME --instruction "Say it in short sentences."',
        )
    return Style(options.model, options.instruction, options.temperature, options.max_tokens)


def _endpoint(options: Options) -> Endpoint:
    return Endpoint(
        options.endpoint, os.environ.get(options.key_env, ""), workers=options.workers, retries=options.retries,
        timeout=options.timeout,
    )  # fmt: skip

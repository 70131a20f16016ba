"""More and other rows out of those you have: system messages, personas, turns, Markdown, another style, tag guards.

    python scripts/augment.py faq.csv --out data/raw/more.jsonl --system "Be brief." --system @pool.txt --copies 2
    python scripts/augment.py data/sample/teaching_steps.jsonl --out /tmp/more.jsonl --structure --share structure=0.3

The second takes a second on any CPU. Reads files of any shape that `make process` reads (JSON, JSON Lines, CSV,
TSV, Parquet, folders, hf:org/name); writes JSON Lines of conversations, and a report beside it. @FILE has one text
a line, or texts divided by lines of ---. Data, columns and seed come from the config.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sftlib import config, console


def main(argv: Sequence[str] | None = None) -> int:
    """Augment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", help="files, folders or hf:... (default: data.raw_path)")
    parser.add_argument("--out", required=True, metavar="F", help="JSON Lines file to write; F.report.json beside it")
    config.add_config_options(parser)
    more = {"action": "append", "default": []}
    parser.add_argument(
        "--share",
        **more,
        metavar="OP=X",
        help="share of rows for style, structure, split, system or persona (default: all)",
    )
    pools = parser.add_argument_group("messages of a pool (texts or @FILE; repeatable)")
    pools.add_argument("--system", **more, metavar="TEXT", help="a system message")
    pools.add_argument(
        "--system_mode",
        choices=("only_if_missing", "replace", "prepend"),
        default="only_if_missing",
        help="where a row has one (default: %(default)s)",
    )
    pools.add_argument(
        "--copies", type=int, default=0, metavar="N", help="keep the row, and add N with other system messages"
    )
    pools.add_argument("--persona", **more, metavar="TEXT", help="put before the system message")
    answers = parser.add_argument_group("answers")
    answers.add_argument("--structure", action="store_true", help="lists and headings by rule, the words unchanged")
    answers.add_argument("--split_words", type=int, metavar="N", help="longer ones in several turns")
    answers.add_argument("--split_characters", type=int, metavar="N", help="the same for languages without blanks")
    answers.add_argument("--follow_up", **more, metavar="TEXT", help="what the user says between them (default: …)")
    answers.add_argument(
        "--tags",
        choices=("keep", "remove", "drop"),
        default="keep",
        help="answers with literal chat tags: cut them off, or drop the rows (default: %(default)s)",
    )
    answers.add_argument("--guard", type=int, default=0, metavar="N", help="add N rows that answer tags in plain words")
    style = parser.add_argument_group("another style, by an OpenAI-compatible server")
    style.add_argument("--endpoint", metavar="URL", help="http://host:port/v1")
    style.add_argument("--model", metavar="NAME", help="as the server calls it")
    style.add_argument("--instruction", metavar="TEXT", help="how the answers are to be said")
    style.add_argument("--temperature", type=float, default=0.0, help="default: 0")
    style.add_argument("--max_tokens", type=int, metavar="N", help="of an answer (default: the server's)")
    style.add_argument(
        "--key_env",
        default="OPENAI_API_KEY",
        metavar="VAR",
        help="environment variable with the key (default: %(default)s)",
    )
    style.add_argument("--workers", type=int, default=4, metavar="N", help="requests at once (default: 4)")
    style.add_argument("--retries", type=int, default=5, metavar="N", help="of a busy server (default: 5)")
    style.add_argument("--timeout", type=float, default=120.0, metavar="S", help="seconds for an answer (default: 120)")
    style.add_argument("--limit", type=int, metavar="N", help="send no more requests than these")
    style.add_argument(
        "--max_failed", type=float, default=0.05, metavar="X", help="share of failed ones that is borne (default: 0.05)"
    )
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """Read, augment, write, show."""
    settings = config.load_config(args.config, args.set)

    from sftlib import build_augment

    report = build_augment.augment(settings, args.files, args.out, build_augment.Options.of(vars(args)))
    build_augment.show(report)
    console.note(f"Written: {args.out}. Next: make process RAW={args.out} SET=data.group_by=source")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

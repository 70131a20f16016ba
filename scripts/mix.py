"""Mix files of rows into one: weighted, shuffled, without doubles where that is asked for; every row says its origin.

    python scripts/mix.py a.jsonl:2 b.jsonl:1 --out mixed.jsonl --rows 3000 --dedupe folded
    python scripts/mix.py data/sample/teaching_steps.jsonl:1 --out /tmp/mixed.jsonl --rows 100

The second takes a second on any CPU. A number behind the last colon is a weight; a set without one counts as 1, and
without any weight shares follow the numbers of rows. Reads what `make process` reads (JSON, JSON Lines, CSV, TSV,
Parquet, folders, hf:org/name); writes JSON Lines, and a report beside it. Rows keep all their fields.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sftlib import config, console


def main(argv: Sequence[str] | None = None) -> int:
    """Mix."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="FILE[:WEIGHT]", help="files, folders or hf:..., with their weights")
    parser.add_argument("--out", required=True, metavar="F", help="JSON Lines file to write; F.report.json beside it")
    config.add_config_options(parser)
    parser.add_argument("--rows", type=int, metavar="N", help="exactly so many (default: no row more than once)")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help="above 1: shares more alike (1)")
    parser.add_argument("--seed", type=int, metavar="N", help="instead of the config's (42)")
    parser.add_argument(
        "--dedupe", choices=("no", "exact", "folded", "near"), default="no",
        help="leave out rows equal to an earlier one: to the letter; but for case and blanks; but for a few words",
    )  # fmt: skip
    parser.add_argument("--similarity", type=float, default=0.8, metavar="X", help="what is near (default: 0.8)")
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """Mix, write, show."""
    settings = config.load_config(args.config, args.set)

    from sftlib import build_mix

    sets = build_mix.mix(
        settings, args.sets, args.out, args.seed, rows=args.rows, temperature=args.temperature, dedupe=args.dedupe,
        similarity=args.similarity,
    )  # fmt: skip
    build_mix.show(sets)
    console.note(f"Written: {args.out}. Next: make process RAW={args.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

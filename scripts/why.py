"""The life of one row: raw, processed, rendered, cut, its loss each time a run saw it. Without a row, the worst ones.

    python scripts/why.py --row faq.jsonl:17
    python scripts/why.py --config configs/run_smoke.yaml --run first-try      the 20 worst rows of a run, on any CPU
    python scripts/why.py --blocklist                                          those that stand out, to be left out

A row is called by its source, as it stands in data/processed, or by the end of it; a chunk of it is `faq.jsonl:17#2`.

Reads   the processed splits, rejected.jsonl, the raw file, the model's tokenizer and template, and seen.jsonl and
        spikes.jsonl of the run.
Writes  nothing; with --blocklist the file of data.blocklist (data/blocklist.txt).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sftlib import config, console


def main(argv: Sequence[str] | None = None) -> int:
    """Tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    config.add_config_options(parser)
    parser.add_argument("--row", metavar="SOURCE", help="the row, as `faq.jsonl:17`")
    parser.add_argument("--run", metavar="NAME", help="the run that saw it (default: the one that trained last)")
    parser.add_argument(
        "--blocklist", action="store_true", help="write the row, or those that stand out, into the file"
    )
    parser.add_argument("--out", metavar="FILE", help="another file for --blocklist (data.blocklist)")
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """One row, the worst rows, or the blocklist."""
    settings = config.load_config(args.config, args.set)

    from sftlib import build_why

    if args.blocklist:
        build_why.block(settings, args.run, args.row, args.out)
    elif args.row:
        build_why.tell(settings, args.row, args.run)
    else:
        build_why.show_worst(settings, args.run)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Make the examples of a training beforehand: every data set read, split, rendered, cut, mixed, and written down.

    python scripts/prepare.py --config my-project/train.yaml
    python scripts/prepare.py --config configs/run_smoke.yaml --dry-run     what would be written, on any CPU
    python scripts/prepare.py --config configs/run_smoke.yaml --debug 2     two rows of each data set on their way

`make train` makes what is missing by the same code; this shows it first, and leaves it for other tools.
Reads   data.datasets or data.raw_path, and the model's tokenizer and template.
Writes  data.processed_dir, and in data.prepared_dir train.parquet, val.parquet, test.parquet and metadata.json. With
        --dry-run and --debug nothing but the token cache.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sftlib import config, console


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    config.add_config_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be written, with counts and lengths")
    parser.add_argument(
        "--debug", type=int, nargs="?", const=1, metavar="N",
        help="show N rows (1) of each data set: raw, understood, rendered, as tokens with what is trained",
    )  # fmt: skip
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """Look what is there, make the rest, say what it is."""
    settings = config.load_config(args.config, args.set)

    from sftlib import build_prepared

    if args.debug is not None:
        build_prepared.show_rows(settings, args.debug)
        return 0
    if not args.dry_run and (found := build_prepared.standing(settings)):
        build_prepared.show(found)
        console.note(f"{settings.data.prepared_dir} is up to date: nothing was read or written anew.")
        return 0
    found = build_prepared.make(settings, dry_run=args.dry_run)
    build_prepared.show(found)
    if args.dry_run:
        console.note(f"Nothing was written. Without --dry-run: {', '.join(found['files'])}")
    else:
        console.note(f"Written: {settings.data.prepared_dir}. Next: make check, then make train")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

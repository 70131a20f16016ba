"""Look at the processed data before training on it: what is wrong with it, how long it is, which max_seq_len suits it.

    python scripts/analyze.py --config configs/config_base.yaml
    python scripts/analyze.py --no-tokens --fail-on leaks,conflicts      without a model; exit code 3 when one is found

Both run on a CPU. Reads the splits (data.processed_dir, or data.train_path and its like) and the model's tokenizer and
template. Writes report.html, one page that needs no network, and report.json into analysis/ in train.output_dir.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sftlib import config, console


def main(argv: Sequence[str] | None = None) -> int:
    """Analyze, show, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    config.add_config_options(parser)
    parser.add_argument("--no-tokens", action="store_true", help="count words: needs no model, and suggests no limit")
    parser.add_argument(
        "--fail-on", default="", metavar="KINDS", help="exit with 3 when one of these is found, as leaks,duplicates"
    )
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """One dict; from it the tables, the page and the exit code."""
    settings = config.load_config(args.config, args.set)

    from sftlib import build_analyze

    groups = build_analyze.parse_groups(args.fail_on)
    analysis = build_analyze.analyze(settings, with_tokens=not args.no_tokens)
    written = build_analyze.write(analysis, build_analyze.folder_of(settings))
    build_analyze.show(analysis)
    console.note(f"Written: {written}, with an example of each finding, and report.json beside it.")
    build_analyze.refuse(analysis, groups)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

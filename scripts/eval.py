"""Score what the tuned model answers to a split, and the base model beside it.

    python scripts/eval.py --config configs/run_bnb.yaml --split test
    python scripts/eval.py --config configs/run_smoke.yaml --split val --limit 8        a minute on a CPU

Reads   the split (data/processed/test.jsonl) and the tuned model: adapters/last, or --run NAME, or --adapter FOLDER.
Writes  outputs/metrics.json, outputs/samples.jsonl and outputs/samples.md (train.output_dir), and the same
        three in outputs/<run>/eval/<split>/. The table goes to stdout.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from sftlib import config, console


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate one split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    config.add_config_options(parser)
    parser.add_argument("--split", choices=["val", "test"], default="test", help="rows to ask (default: %(default)s)")
    parser.add_argument("--limit", type=int, metavar="N", help="ask N rows only, drawn by the seed (eval.limit)")
    systems = parser.add_mutually_exclusive_group()
    systems.add_argument("--base", action="store_true", help="the base model alone")
    systems.add_argument("--tuned-only", action="store_true", help="the tuned model alone")
    tuned = parser.add_mutually_exclusive_group()
    tuned.add_argument("--run", metavar="NAME", help="the tuned model of this run, instead of the newest")
    tuned.add_argument("--adapter", metavar="FOLDER", help="an adapter, or a whole tuned model")
    parser.add_argument("--schema", metavar="FILE", help="JSON Schema that answers should satisfy (eval.json_schema)")
    parser.add_argument("--regex", help="regular expression that whole answers should match (eval.regex)")
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """Check the inputs, ask, score, write."""
    flags = {"eval.limit": args.limit, "eval.json_schema": args.schema, "eval.regex": args.regex}
    given = [f"{key}={json.dumps(value)}" for key, value in flags.items() if value is not None]
    settings = config.load_config(args.config, [*args.set, *given])

    # What is missing is said before torch is imported.
    from sftlib.run.inputs import find_split, find_tuned

    path = find_split(settings.data, args.split)
    outputs = Path(settings.train.output_dir)
    tuned = None if args.base else find_tuned(outputs, run=args.run, adapter=args.adapter)

    from sftlib import build_speaking

    systems = ["base"] if args.base else ["tuned"] if args.tuned_only else ["base", "tuned"]
    report = build_speaking.evaluate(settings, args.split, path, tuned.folder if tuned else None, systems)
    folders = [outputs, *([tuned.run.eval / args.split] if tuned and tuned.run else [])]
    build_speaking.write_report(report, folders)
    build_speaking.show_report(report)
    console.note(f"Every answer, side by side: {folders[-1] / 'samples.md'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

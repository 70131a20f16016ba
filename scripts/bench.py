"""Measure our training beside that of others: the same model, rows, tokens, precision and adapter, in turn.

    python scripts/bench.py --raw_path faq.jsonl --rows 512 --rounds 3
    python scripts/bench.py --rows 32 --rounds 1 --peers trainer      three minutes on a CPU, no other environment

Reads   the config, the raw rows (data/sample by default), the model, and the peers' environments (make bench-peers).
Writes  outputs/bench/training-*.json and the table of docs/BENCHMARKS.md. Exits with 7 when a check of honesty fails.
"""

from __future__ import annotations

import argparse
import functools
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from sftlib import config, console
from sftlib.errors import MachineError, TrainingError, UsageError

SAMPLE = "data/sample"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    config.add_config_options(parser)
    parser.add_argument("--raw_path", nargs="+", default=[SAMPLE], metavar="P", help="raw rows (default: data/sample)")
    parser.add_argument("--rows", type=int, default=512, help="rows to train on, at most (default: 512)")
    parser.add_argument("--unseen", type=int, default=64, help="rows that the adapters are judged by (default: 64)")
    parser.add_argument("--batch", type=int, default=8, help="rows a step (default: 8)")
    parser.add_argument("--epochs", type=float, default=1.0, help="passes over the rows (default: 1)")
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each (default: 3)")
    parser.add_argument("--peers", nargs="+", default=[], metavar="NAME", help="these alone (default: all)")
    parser.add_argument(
        "--environment", action="append", default=[], metavar="NAME=FOLDER", help="of a peer, elsewhere"
    )
    parser.add_argument("--page", default="docs/BENCHMARKS.md", help="whose table is replaced (default: %(default)s)")
    parser.add_argument("--stage", choices=("prepare", "judge"), help=argparse.SUPPRESS)
    given = list(sys.argv[1:] if argv is None else argv)
    return console.run(functools.partial(work, given=given), parser, argv)


def work(args: argparse.Namespace, given: Sequence[str]) -> int:
    """Prepare, train in turn, judge, show."""
    settings = config.load_config(args.config, args.set)
    if min(args.rows, args.unseen, args.batch, args.rounds, args.epochs) <= 0:
        raise UsageError("--rows, --unseen, --batch, --epochs and --rounds are numbers above 0.")
    results = Path(settings.train.output_dir).absolute() / "bench"
    folder = results / ".work"
    if args.stage:
        return perform(args, settings, folder)

    from sftlib.bench import campaign, entrants
    from sftlib.bench import results as found
    from sftlib.bench.work import read_work

    environments = dict(one.partition("=")[::2] for one in args.environment)
    chosen = entrants.find_entrants(args.peers, {name: Path(at).absolute() for name, at in environments.items()})

    console.stage("Preparing the rows")
    in_a_process("prepare", given)
    shared = read_work(folder)

    console.stage(f"{args.rounds} rounds of {', '.join(one.name for one in chosen)}")
    standings = campaign.campaign(shared, chosen, args.rounds, folder)

    console.stage("Judging the adapters on unseen rows")
    campaign.write_adapters(standings, folder)
    in_a_process("judge", given)
    campaign.take_outcomes(standings, shared, folder)

    now = datetime.now()
    about = found.about(shared, args.rounds, f"{now:%Y-%m-%d}", shlex.join(["scripts/bench.py", *given]))
    all_figures = found.figures(standings)
    found.write_results(results / f"training-{now:%Y%m%d-%H%M%S}.json", about, standings)
    found.update_page(Path(args.page), "training", found.page_lines(about, all_figures))
    console.table("Training", found.HEADERS, found.rows(all_figures))
    return TrainingError.exit_code if any(one.faults for one in standings.values()) else 0


def perform(args: argparse.Namespace, settings: config.Config, folder: Path) -> int:
    """One of the stages that load the model."""
    from sftlib import build_bench

    if args.stage == "prepare":
        plan = build_bench.Plan(args.raw_path, args.rows, args.unseen, args.batch, args.epochs)
        build_bench.prepare(settings, plan, folder)
    else:
        build_bench.judge(settings, folder)
    return 0


def in_a_process(stage: str, given: Sequence[str]) -> None:
    """A stage of this same command in a process of its own, so that this one stays small (bench/running.py)."""
    if subprocess.run([sys.executable, __file__, *given, "--stage", stage], check=False).returncode:
        raise MachineError(f"The stage `{stage}` failed; why stands above.")


if __name__ == "__main__":
    raise SystemExit(main())

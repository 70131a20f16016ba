"""Measure our work beside that of others, in turn, each in a process of its own: one workload a call.

    python scripts/bench.py --raw_path faq.jsonl --rows 512 --rounds 3 --mode qlora
    python scripts/bench.py --rows 32 --rounds 1 --peers trainer      three minutes on a CPU, no other environment
    python scripts/bench.py --workload generate                       or prepare, startup, scaling, gpu

Reads   the config, raw rows (by default the FAQ package's), the model, and the peers' environments (make bench-peers).
Writes  outputs/bench/*.json and the workload's table of docs/BENCHMARKS.md. Exits with 7 when a check of honesty fails.
"""

from __future__ import annotations

import argparse
import functools
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sftlib import config, console
from sftlib.bench import workloads
from sftlib.errors import MachineError, TrainingError, UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    config.add_config_options(parser)
    parser.add_argument("--workload", choices=workloads.WORKLOADS, default="train", help="default: %(default)s")
    parser.add_argument("--raw_path", nargs="+", default=[], metavar="P", help="raw rows (default: the FAQ package)")
    parser.add_argument("--rows", type=int, metavar="N", help=f"at most (default: {workloads.sizes_said()})")
    parser.add_argument(
        "--mode",
        choices=workloads.MODES,
        default="lora",
        help="of tuning (default: %(default)s; on a GPU always qlora)",
    )
    parser.add_argument("--unseen", type=int, default=64, help="rows that the adapters are judged by (default: 64)")
    parser.add_argument("--batch", type=int, default=8, help="rows a step, or answers at once (default: 8)")
    parser.add_argument("--epochs", type=float, default=1.0, help="passes over the rows (default: 1)")
    parser.add_argument("--new_tokens", type=int, default=64, help="of an answer, at most (default: 64)")
    parser.add_argument(
        "--prepared", type=int, default=100_000, metavar="N", help="scaling: rows prepared, and ten times (100000)"
    )
    parser.add_argument("--shapes", nargs="+", choices=workloads.SHAPES, default=[], help="gpu: these alone")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each (default: 3)")
    parser.add_argument("--peers", nargs="+", default=[], metavar="NAME", help="these alone, or none (default: all)")
    parser.add_argument(
        "--environment", action="append", default=[], metavar="NAME=FOLDER", help="of a peer, elsewhere"
    )
    parser.add_argument("--page", default="docs/BENCHMARKS.md", help="whose table is replaced (default: %(default)s)")
    parser.add_argument("--stage", choices=("prepare", "judge"), help=argparse.SUPPRESS)
    parser.add_argument("--of", help=argparse.SUPPRESS)  # the folder that is judged
    parser.add_argument("--job", help=argparse.SUPPRESS)
    given = list(sys.argv[1:] if argv is None else argv)
    return console.run(functools.partial(work, given=given), parser, argv)


def work(args: argparse.Namespace, given: Sequence[str]) -> int:
    """Prepare, run in turn, judge, show."""
    if args.job:
        from sftlib import build_bench

        build_bench.perform(Path(args.job))
        return 0
    settings = config.load_config(args.config, args.set)
    plan = workloads.Plan(
        args.workload, args.raw_path, args.rows, args.unseen, args.batch, args.epochs, args.mode, args.new_tokens,
        args.prepared, args.shapes,
    )  # fmt: skip
    numbers = (plan.size, plan.unseen, plan.batch, plan.epochs, plan.max_new_tokens, plan.prepared, args.rounds)
    if min(numbers) <= 0 or args.rows == 0:
        raise UsageError("--rows, --unseen, --batch, --epochs, --new_tokens and --rounds are numbers above 0.")
    results = Path(settings.train.output_dir).absolute() / "bench"
    folder = results / ".work" / args.workload
    if args.stage:
        from sftlib import build_bench

        if args.stage == "prepare":
            build_bench.prepare(settings, plan, folder)
        else:
            build_bench.judge(settings, Path(args.of))
        return 0

    from sftlib.bench import campaign, entrants
    from sftlib.bench import results as figures

    environments = {name: Path(at).absolute() for name, _, at in (one.partition("=") for one in args.environment)}
    entrants.check_environments(environments)

    console.stage("Preparing the work")
    in_a_process(given, "--stage", "prepare")
    contests, found = workloads.read_contests(folder), []
    entrants.check_names(args.peers, [one for shared in contests for one in shared.entrants()])
    for shared in contests:
        chosen = entrants.find_entrants(shared.entrants(), args.peers, environments)
        console.stage(f"{shared.label or workloads.TITLES[args.workload]}: {args.rounds} rounds of "
                      f"{', '.join(one.name for one in chosen)}")  # fmt: skip
        standings = campaign.campaign(shared, chosen, args.rounds, Path(shared.folder))
        if shared.is_judged:
            console.stage("Judging the adapters on unseen rows")
            campaign.write_adapters(standings, Path(shared.folder))
            in_a_process(given, "--stage", "judge", "--of", shared.folder)
        campaign.take_outcomes(standings, shared)
        found.append(figures.found(shared, standings))

    command = shlex.join(["scripts/bench.py", *given])
    figures.publish(results, Path(args.page), workloads.table_name(plan), args.rounds, command, found)
    for headers, rows in figures.tables(found):
        console.table(workloads.TITLES[args.workload], headers, rows)
    return TrainingError.exit_code if any(line.is_void for one in found for line in one.lines) else 0


def in_a_process(given: Sequence[str], *stage: str) -> None:
    """A stage of this same command in a process of its own, so that this one stays small (bench/running.py)."""
    if subprocess.run([sys.executable, __file__, *given, *stage], check=False).returncode:
        raise MachineError(f"The stage `{stage[1]}` failed; why stands above.")


if __name__ == "__main__":
    raise SystemExit(main())

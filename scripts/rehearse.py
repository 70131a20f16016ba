"""Dress rehearsal: process, check, train, eval, infer and merge on your own data, with a tiny random model, on a CPU.

    python scripts/rehearse.py --config configs/run_bnb.yaml --raw_path faq.csv
    python scripts/rehearse.py --raw_path data/sample        a minute on a CPU, no GPU and no network

Reads   the config, 120 of the raw rows, and the model's config.json and tokenizer: the stored ones, else those files
        alone from the hub. The weights are random, of the same architecture, so its answers mean nothing.
Writes  outputs/.rehearsal/ and nothing else; deletes it when all went well, keeps it otherwise.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence

from sftlib import config, console
from sftlib.config.options import DEFAULT_CONFIG
from sftlib.units import human_duration


def main(argv: Sequence[str] | None = None) -> int:
    """Rehearse."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    config.add_config_options(parser)
    parser.add_argument("--raw_path", nargs="+", metavar="P", help="files, folders or hf:..., instead of data.raw_path")
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """Prepare, perform, show, clean up."""
    settings = config.load_config(args.config, args.set)

    console.stage("Preparing a small copy of the model and a sample of the data")
    from sftlib import build_rehearsal

    rehearsal = build_rehearsal.prepare(settings, args.raw_path)
    times = []
    for number, stage in enumerate(rehearsal.stages, 1):
        console.stage(f"{stage.name} ({number} of {len(rehearsal.stages)})")
        times.append(rehearsal.perform(stage))
        console.note(f"done in {human_duration(times[-1])}")
    rehearsal.clean_up()

    rows = [
        (stage.name, human_duration(seconds), real_command(stage.target, args))
        for stage, seconds in zip(rehearsal.stages, times, strict=True)
    ]
    total = ("all", human_duration(sum(times)), "")
    console.table("The rehearsal went well", ("stage", "time", "for real"), [*rows, total])
    return 0


def real_command(target: str, args: argparse.Namespace) -> str:
    """What a person types to do with the real model what was rehearsed."""
    given = {"CONFIG": "" if args.config == DEFAULT_CONFIG else str(args.config), "SET": " ".join(args.set)}
    if target == "process":
        given["RAW"] = " ".join(args.raw_path or ())
    if target == "infer":
        given["PROMPT"] = "..."
    return " ".join(["make", target, *(shlex.quote(f"{name}={value}") for name, value in given.items() if value)])


if __name__ == "__main__":
    raise SystemExit(main())

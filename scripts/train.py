"""Fine-tune the configured model on the processed splits.

    python scripts/train.py --config configs/run_bnb.yaml
    python scripts/train.py --config configs/run_smoke.yaml        two minutes on a CPU

Reads   the config, data/processed/{train,val}.jsonl (or data.train_path, data.val_path) and the base model.
Writes  outputs/<run>/ (config, stamp, curves, checkpoints, adapter), outputs/tb/<run>/ and adapters/last.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sftlib import config, console
from sftlib.units import human_duration


def main(argv: Sequence[str] | None = None) -> int:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    config.add_config_options(parser)
    parser.add_argument("--fresh", action="store_true", help="begin a new run beside one of this name, which stays")
    parser.add_argument("--print-config", action="store_true", help="print every key, its value and origin, and stop")
    parser.add_argument("--show-batch", action="store_true", help="print two examples, trained tokens marked, and stop")
    parser.add_argument("--dry-run", action="store_true", help="settle and prepare everything, train nothing")
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """Check, settle, prepare, train, sum up."""
    settings, origins = config.load_with_origins(args.config, args.set)
    if args.print_config:
        config.print_config(settings, origins)
        return 0

    from sftlib import build_data
    from sftlib.run.launch import find_launch

    if find_launch().is_first:  # what is missing is made, or said, before torch is imported
        build_data.bring_up_to_date(settings)
        build_data.training_splits(settings)

    console.stage("Settling the config and preparing the data")
    from sftlib import build, build_backend

    build.join()  # the other processes of this training, if `accelerate launch` started some
    paths = build_data.training_splits(settings)
    settings = build.settle(settings)
    backend = build_backend.choose_first(settings)

    from sftlib import build_examples, build_training

    text = build.load_text(settings)
    settings = build.settle_rate(settings, text)
    console.note(f"Model {text.stored.name} in {text.stored.folder}; template: {text.template.origin}.")
    splits = build_examples.prepare(settings, text, paths)
    if args.show_batch:
        build_examples.show_examples(text, splits["train"])
        return 0
    build_examples.show_lengths(splits)
    build_examples.show_shares(splits["train"])
    if args.dry_run:
        settings = build_training.foresee(settings, text, splits)
        console.result(config.to_yaml(settings))
        return 0

    console.stage("Training")
    run, report = build_training.train(settings, text, splits, fresh=args.fresh, backend=backend)
    if report.stopped:
        console.note(f"Stopped by {report.stopped} after step {report.steps} of {report.planned_steps}. Go on with:")
        console.result(run.go_on_command(settings.train.resume))
        return 0

    times = report.times
    console.table(
        f"Run {run.name}", ("what", "value"),
        [
            ("steps", f"{report.steps} of {report.planned_steps}"),
            ("last loss", report.last_loss),
            ("best", f"{report.best['metric']} {report.best['value']:.4f}" if report.best else None),
            ("tokens/s", times.get("tokens_per_second")),
            ("peak memory, GiB", times.get("peak_memory_gib")),
            ("time", human_duration(times["wall_seconds"])),
            ("adapter", str(run.adapter)),
        ],
    )  # fmt: skip
    console.note("Next: make eval, make infer-interactive, make merge")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

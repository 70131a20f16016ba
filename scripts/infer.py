"""Talk to the tuned model, ask it one question, or have a file of questions answered.

    python scripts/infer.py --config configs/run_bnb.yaml
    python scripts/infer.py --config configs/run_smoke.yaml --prompt "Why is the sky blue?"        seconds on a CPU
    python scripts/infer.py --mode batch --input_file questions.txt --output_file answers.jsonl

Reads   the tuned model: adapters/last, or --run NAME, or --adapter FOLDER (an adapter or a merged model); --base asks
        the base instead. Questions: .jsonl rows with "user", "prompt" or "messages"; any other file, one a line.
Writes  answers to stdout, or to --output_file: .jsonl, the input rows with "generated" added; any other file, one
        answer a line, line breaks within it as \\n. Settings are those of the section `infer`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sftlib import config, console
from sftlib.errors import DataError, UsageError

HELP = "python scripts/infer.py --help"


def main(argv: Sequence[str] | None = None) -> int:
    """Answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    config.add_config_options(parser)
    parser.add_argument(
        "--mode", choices=["interactive", "single", "batch"],
        help="default: single with --prompt, batch with --input_file, else interactive",
    )  # fmt: skip
    parser.add_argument("--prompt", metavar="TEXT", help="the question of a single answer")
    parser.add_argument("--input_file", type=Path, metavar="FILE", help="questions of a batch")
    parser.add_argument("--output_file", type=Path, metavar="FILE", help="answers of a batch")
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--base", action="store_true", help="the base model, not a tuned one")
    model.add_argument("--run", metavar="NAME", help="the tuned model of this run, instead of the newest")
    model.add_argument("--adapter", "--model", metavar="FOLDER", help="an adapter, or a merged or wholly tuned model")
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """Check the inputs, load the model, answer."""
    mode = _mode(args)
    settings = config.load_config(args.config, args.set)

    # What is missing is said before torch is imported.
    from sftlib.run.inputs import find_tuned

    outputs = Path(settings.train.output_dir)
    tuned = None if args.base else find_tuned(outputs, run=args.run, adapter=args.adapter).folder
    if mode == "batch" and not args.input_file.is_file():
        raise DataError("There is no such file.", where=str(args.input_file), expected="a file of questions")

    from sftlib import build_speaking

    if mode == "batch":
        questions = build_speaking.read_questions(args.input_file, settings.infer.system)
        responder = build_speaking.load_responder(settings, tuned, seed=settings.seed)
        answers = build_speaking.answer_questions(questions, responder.answers)
        build_speaking.write_answers(args.output_file, questions, answers)
        console.note(f"{len(questions)} answers: {args.output_file}")
        return 0
    responder = build_speaking.load_responder(settings, tuned, seed=settings.seed if mode == "single" else None)
    if mode == "single":
        responder.answer(build_speaking.opening(args.prompt, settings.infer.system), write)
        console.result()
        return 0
    console.note(f"This is {responder.speaker.name}. /help lists the commands, Ctrl-D leaves.")
    session = build_speaking.ChatSession(responder, write, console.note, settings.infer.system)
    with build_speaking.line_reader(outputs / ".chat_history") as read_line:
        build_speaking.run_chat(session, read_line)
    return 0


def write(text: str) -> None:
    """Show a piece of an answer as it comes."""
    console.result(text, end="")


def _mode(args: argparse.Namespace) -> str:
    """What is to be done, from what was given; UsageError when the two do not fit."""
    mode = args.mode or ("single" if args.prompt is not None else "batch" if args.input_file else "interactive")
    needs = {
        "single": [("--prompt", args.prompt)],
        "batch": [("--input_file", args.input_file), ("--output_file", args.output_file)],
        "interactive": [],
    }
    for other, options in needs.items():
        for name, value in options:
            if other == mode and value is None:
                raise UsageError(f"--mode {mode} needs {name}.", cure=HELP)
            if other != mode and value is not None:
                raise UsageError(f"{name} is for --mode {other}, not for --mode {mode}.", cure=HELP)
    return mode


if __name__ == "__main__":
    raise SystemExit(main())

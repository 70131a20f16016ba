"""Make a folder of your own for configs, raw data and results, which every command takes with CONFIG=<name>/train.yaml.

    python scripts/init_project.py my-project
    python scripts/init_project.py my-project && cp data/sample/*.jsonl my-project/raw/        and go on, on any CPU

Writes  my-project/base.yaml (model, adapter), data.yaml (data sets, split, folders) and train.yaml (the training, which
        takes both as its bases), and the folders raw, processed, prepared and output. Nothing is ever written over.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sftlib import console


def main(argv: Sequence[str] | None = None) -> int:
    """Make one project."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", help="name of the folder: letters, digits, `.`, `_` and `-`")
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """Make it, and say what comes next."""
    from sftlib.config import projects

    folder = projects.make_project(args.name)
    config = folder / "train.yaml"
    console.note(f"Made: {folder}/ with base.yaml, data.yaml, train.yaml, raw/, processed/, prepared/ and output/.")
    console.note(f"Next: put your rows into {folder}/raw, then")
    for target in ("prepare", "check", "train", "eval-test", "infer-interactive", "merge"):
        console.result(f"  make {target} CONFIG={config}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

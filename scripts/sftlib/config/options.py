"""The two options of every script that reads a config. No pydantic, no YAML: `--help` answers at once.

    --config configs/run_bnb.yaml --set train.learning_rate=1e-4 --set run_name=first

Worst bug: an override that does not reach the config (tests/config/test_loader.py).
"""

from __future__ import annotations

import argparse

DEFAULT_CONFIG = "configs/config_base.yaml"


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add `--config PATH` (args.config) and the repeatable `--set KEY=VALUE` (args.set, a list)."""
    parser.add_argument(
        "--config", default=DEFAULT_CONFIG, metavar="PATH", help=f"the config (default: {DEFAULT_CONFIG})"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="override one key, e.g. train.learning_rate=1e-4; repeatable",
    )  # fmt: skip

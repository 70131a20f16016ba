"""Look before you train: everything that a training will use, and ten steps of it, in under a minute.

    python scripts/check.py --config configs/run_bnb.yaml
    python scripts/check.py --config configs/run_smoke.yaml        under a minute on a CPU once the model is there

Config, versions, splits and leaks, device and kernels, model, template and mask with two real examples, lengths, the
end of the turn, memory, disk, and whether ten steps on one batch lower its loss. All faults are told together, each
with a code of docs/ERRORS.md; the exit code is the highest of theirs.

Reads   the config, the processed splits and the model; fetches the model when it is missing.
Writes  the token cache only. Nothing that it trains is kept.
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
    """All checks, in the order in which they need each other."""
    from sftlib import build_check

    checks = build_check.preflight(args.config, args.set)
    build_check.show_verdict(checks)
    return checks.exit_code


if __name__ == "__main__":
    raise SystemExit(main())

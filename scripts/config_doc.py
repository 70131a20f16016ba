"""Write the pages that are made from the code: docs/CONFIG.md, configs/config_base.yaml and docs/ERRORS.md.

    python scripts/config_doc.py            # write what is stale
    python scripts/config_doc.py --check    # write nothing; exit with 2 when something is stale

Both take a second on any CPU. Reads scripts/sftlib/config/schema.py and scripts/sftlib/errors/catalogue.py; writes
each page whole or not at all.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sftlib import console
from sftlib.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is stale")
    return console.run(work, parser, argv)


def work(args: argparse.Namespace) -> int:
    from sftlib.config import document

    stale = document.stale_pages()
    if args.check and stale:
        names = " and ".join(f"{path.parent.name}/{path.name}" for path in stale)
        raise ConfigError(
            f"The schema or the catalogue of errors has changed since {names} was made.",
            cure="python scripts/config_doc.py",
        )
    for path in stale:
        document.write_page(path)
        console.note(f"wrote {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

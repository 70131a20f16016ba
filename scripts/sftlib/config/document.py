"""The pages that are made from the code: docs/CONFIG.md, configs/config_base.yaml and docs/ERRORS.md.

Comes in: schema.py, and the catalogue of errors. Goes out: the texts; scripts/config_doc.py writes and checks them.

Worst bug: a page that says something else than the code (tests/config/test_document.py).
"""

from __future__ import annotations

from pathlib import Path

from ..errors import catalogue
from ..files import ROOT, write_text
from .keys import Key, keys, sections
from .schema import Config
from .writing import scalar, to_yaml

BASE_HEAD = """\
# Every key of the config with its default. Made by scripts/config_doc.py from scripts/sftlib/config/schema.py: change
# the schema, not this file. A config of your own holds only what differs, after the line
#     include: config_base.yaml

"""

PAGE_HEAD = """\
# The config

*Made by `python scripts/config_doc.py` from `scripts/sftlib/config/schema.py`; do not edit it by hand.*

A config is a YAML file. Every key has a default, so a config holds only what differs:

```yaml
include: config_base.yaml        # or base_config: a path or a list of paths, from the folder of this file
train:
  learning_rate: 1e-4
```

- **Which value wins.** What a file includes is read before the file itself; of two values the later one wins, and
  `--set KEY=VALUE` on the command line wins over all: `--set train.learning_rate=1e-4 --set run_name=first`.
  Sections are merged key by key, a list replaces a list.
- **What follows.** Where a later value cannot hold together with an earlier one, the earlier one follows it:
  `--set train.eval_steps=50` makes `eval_strategy` `steps`; `--set train.grad_accum=8` sets the effective batch;
  `--set train.eval_strategy=no` turns `load_best_model_at_end` off. In one file the same is an error.
- **What is written is what is meant.** `1e-4` is a number, `eval_strategy: no` is the word, `010` is ten, `null` or
  nothing (`--set eval.limit=`) takes a value away. A key that is unknown, doubled or of the wrong type is an error;
  all errors are told at once, each with its file and line.
- **See what holds.** `python scripts/train.py --config CONFIG --print-config` prints each value and where it came from.
"""


def pages() -> dict[Path, str]:
    """The files that are made from the code, and what they should say."""
    return {
        ROOT / "configs" / "config_base.yaml": base_yaml(),
        ROOT / "docs" / "CONFIG.md": markdown(),
        ROOT / catalogue.PAGE: catalogue.page(),
    }


def stale_pages() -> list[Path]:
    """Those that do not say it, or are not there."""
    return [path for path, text in pages().items() if not path.is_file() or path.read_text(encoding="utf-8") != text]


def write_page(path: Path) -> None:
    """Write one of the pages, whole or not at all."""
    write_text(path, pages()[path])


def base_yaml() -> str:
    """The text of configs/config_base.yaml."""
    return BASE_HEAD + to_yaml(Config(), comments=True)


def markdown() -> str:
    """The text of docs/CONFIG.md."""
    parts = [PAGE_HEAD]
    for section, kind in sections().items():
        summary = (kind.__doc__ or "").splitlines()[0]
        title = f"`{section.replace('*', 'NAME')}`: {summary}" if section else "At the top"
        own = [key for key in keys().values() if key.name.rpartition(".")[0] == section]
        rows = [_row(key, section) for key in own]
        parts.append(
            "\n".join([f"## {title}\n", "| Key | Takes | Default | Meaning |", "| --- | --- | --- | --- |", *rows])
            + "\n"
        )
    return "\n".join(parts)


def _row(key: Key, section: str) -> str:
    name = key.name[len(section) + 1 :] if section else key.name
    cells = [f"`{name}`", key.allowed(), f"`{scalar(key.default)}`", key.description]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

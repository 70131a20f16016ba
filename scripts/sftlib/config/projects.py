"""A folder of one's own for one piece of work: three configs, the raw data, what is made of it, and the results.

Comes in: a name. Goes out: the folder in the current one, ready for every command by CONFIG=<name>/train.yaml:

    my-project/base.yaml     the model and the adapter; includes configs/config_base.yaml
               data.yaml     the data sets, the split, and where everything lies
               train.yaml    the training; its bases are the two others
               raw/          your rows
               processed/ prepared/ output/      made by make process, make prepare and make train

An `include` is looked for from the folder of the file that names it; every other path in a config counts from the
current folder, which is that of the Makefile. That is why the files name `my-project/raw` and not `raw`.

Worst bug: results or rows of one project in another (tests/test_project_folder.py).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import UsageError
from ..files import ROOT, write_text

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
OURS = ("adapters", "chat_templates", "configs", "data", "docs", "models", "outputs", "scripts", "tests", "workflows")
FOLDERS = ("raw", "processed", "prepared", "output")

BASE = """\
# The model and the adapter, for every training of this project.
#
# Holds only what differs from configs/config_base.yaml, which has every key with its meaning (docs/CONFIG.md).
include: {base}

model:
  name: auto                        # or a hub id, a folder, a .gguf file: Qwen/Qwen2.5-3B-Instruct
  max_seq_len: 1024                 # longest example, in tokens

tuning:
  mode: auto                        # qlora on a GPU, lora without one; full trains every weight
  lora:
    r: 16
    alpha: 32
    dropout: 0.0
    target_modules: all-linear
"""
DATA = """\
# The data sets, how they are split, and where what is made of them lies.
#
# Paths count from the folder of the Makefile, not from this file.
data:
  datasets:
    mine:                           # a name of your own: letters, digits, _ and -
      path: {name}/raw
    # faq:                          # a second one; each key is optional but path
    #   path: hf:org/name           # a file, a folder, or a data set of the hub
    #   split: train                # of the hub
    #   columns: {{user: question, assistant: answer}}    # names of its columns, where they are not found by themselves
    #   system: You are brief.      # for rows without a system message
    #   weight: 2                   # its share, relative to the others (1); repeat and max_rows are other ways
    #   truncation: truncate_turns  # of this one; also max_seq_len and loss_on
  truncation: drop                  # rows longer than model.max_seq_len; also truncate, split, truncate_turns
  loss_on: assistant                # what is trained: every answer; also last, all, flagged
  split:                            # shares, or numbers of rows above 1 for val and test
    train: 0.8
    val: 0.1
    test: 0.1
  processed_dir: {name}/processed
  style_dir: {name}/processed/styled
  rendered_dir: {name}/processed/rendered
  prepared_dir: {name}/prepared
"""
TRAIN = """\
# One training. Every command takes it: make train CONFIG={name}/train.yaml
#
# Make a second one beside it for another try; of two values the later one wins.
base_config: [base.yaml, data.yaml]

train:
  epochs: 3
  learning_rate: auto               # by the model's width; 1e-4 and the like set it
  effective_batch_size: 16          # examples a step
  output_dir: {name}/output
"""


def make_project(name: str) -> Path:
    """Make the folder in the current one. UsageError for a bad name, and for a folder that holds something already."""
    folder = Path(name)
    if not NAME.fullmatch(name) or name in OURS:
        raise UsageError(
            f"{name!r} cannot be the name of a project.", where="NAME",
            expected=f"letters, digits, `.`, `_` and `-`, a letter or digit first, and none of {', '.join(OURS)}",
            cure="Choose another: make init NAME=my-project",
        )  # fmt: skip
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            "There is something by this name already, and nothing is written over.", where=name,
            expected="a new name, or an empty folder", cure=f"Choose another: make init NAME={name}-2",
        )  # fmt: skip
    try:
        for inner in FOLDERS:
            (folder / inner).mkdir(parents=True)
        base = Path(os.path.relpath(ROOT / "configs" / "config_base.yaml", folder.resolve())).as_posix()
        for file, text in (("base.yaml", BASE), ("data.yaml", DATA), ("train.yaml", TRAIN)):
            write_text(folder / file, text.format(name=name, base=base))
    except OSError as error:
        raise UsageError(
            f"The folder cannot be made: {error.strerror}.", where=name, cure="Look at the permissions here."
        ) from None
    return folder

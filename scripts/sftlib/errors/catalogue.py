"""Every fault that has a code: what it is, what causes it, what cures it. docs/ERRORS.md is made from here.

The first digit of a code is the exit code, which is the kind of error. Codes are stable: one that was given is never
given to another fault. `E200`, `E300` ... stand for all other faults of a kind, which speak for themselves.

    CATALOGUE["E304"].title      ->  "The same question is in two splits"
    code_of(DataError("..."))    ->  "E300"

Worst bug: a code that nothing raises, or that no test has seen (tests/test_catalogue.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import SftError

PAGE = "docs/ERRORS.md"

KINDS = {  # exit code -> the kind of error, and what it means
    1: ("SftError", "an error of no other kind"),
    2: ("UsageError, ConfigError", "the command line or the config is wrong"),
    3: ("DataError", "the data is missing, unreadable or of no known shape"),
    4: ("MachineError", "this machine will not do: memory, disk, a device, a port, a package"),
    5: ("MixError", "refused to mix what does not belong together, such as a run and other data"),
    6: ("ModelError", "a model, tokenizer, template or adapter is missing, broken or of the wrong kind"),
    7: ("TrainingError", "training itself went wrong: nothing is learned, or numbers are not finite"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One fault; `cause` and `cure` are general, the error itself names files, rows and numbers."""

    code: str
    title: str
    cause: str
    cure: str

    @property
    def exit_code(self) -> int:
        """Of a command that ends with it."""
        return int(self.code[1])


ENTRIES = (
    Entry(
        "E200", "Another fault of the config",
        "A setting that only this model, this data or this machine shows to be impossible, such as fp16 without a GPU.",
        "The message names the key and what it may be.",
    ),
    Entry(
        "E201", "The config cannot be read as it stands",
        "A key that does not exist, a value of the wrong type or out of range, two keys that contradict each other.",
        "Every fault is listed with file, line and the nearest known key; docs/CONFIG.md has all keys.",
    ),
    Entry(
        "E300", "Another fault of the data",
        "A file that mixes two forms, or rows that nobody can answer.",
        "The message names the file and the line.",
    ),
    Entry(
        "E301", "The file of a split is missing",
        "The data was not processed yet, or data.train_path, val_path or test_path names another place.",
        "make process; for styled splits make style, for rendered ones make render.",
    ),
    Entry(
        "E302", "A split holds no rows",
        "There are too few raw rows for every split, or its share in data.split is 0.",
        "Add raw data, give the split a larger share, and run make process; or set train.eval_strategy to no.",
    ),
    Entry(
        "E303", "A row of a split is not as make process writes it",
        "The file was written or changed by hand: broken JSON, other fields, an empty answer.",
        "Repair the line, or put the raw rows through make process.",
    ),
    Entry(
        "E304", "The same question is in two splits",
        "Splits made by hand, or by different runs of make process: what is evaluated was trained on, so that every "
        "score is too good.",
        "make process, which keeps one question in one split; or remove the rows that are named.",
    ),
    Entry(
        "E305", "Every row is longer than model.max_seq_len",
        "With data.truncation: drop nothing would be left to train on.",
        "Raise model.max_seq_len to what the histogram shows, or set data.truncation to truncate or split.",
    ),
    Entry(
        "E306", "Too many rows have nothing to train on",
        "Their answers were cut off by data.truncation: truncate, or are empty after the template.",
        "Raise model.max_seq_len; look at the rows that are named.",
    ),
    Entry(
        "E307", "Too many rows cannot be rendered",
        "The chat template refuses their roles, or they were rendered for another model.",
        "Choose another data.template_path, or render them again: make render.",
    ),
    Entry(
        "E308", "The splits are not those of the config and the raw data",
        "The config's data sets, their files or the code changed after make process.",
        "make prepare, or make train: both make the splits anew.",
    ),
    Entry(
        "E400", "Another fault of the machine",
        "A file that cannot be written, or a library that refuses this hardware.",
        "The message names the file or the device.",
    ),
    Entry(
        "E401", "This Python is not supported",
        "The environment was made on a Python for which the pinned packages do not exist.",
        "Make another environment: make install PYTHON=python3.12 VENV=.venv-3.12",
    ),
    Entry(
        "E402", "A package is missing or cannot be imported",
        "An install that did not come to its end, an optional part that the config asks for, or a broken package.",
        "Install the requirement file that is named.",
    ),
    Entry(
        "E403", "A package has a version that is not supported",
        "Something else was installed into this environment. Supported is what is compatible with the pins of the "
        "requirement files: the same release, this patch or a later one.",
        "Install the requirement file that is named.",
    ),
    Entry(
        "E404", "There is a GPU, and PyTorch was built without CUDA",
        "The CPU build of torch was installed, e.g. from an index that has no other.",
        "Install the CUDA build by the command that is named. To train on the CPU on purpose: CUDA_VISIBLE_DEVICES=-1",
    ),
    Entry(
        "E405", "There is a GPU, and PyTorch cannot use it",
        "The NVIDIA driver is older than the CUDA version that torch was built for, or no device is passed into the "
        "container.",
        "Update the driver, or start the container with its GPU (docker run --gpus all).",
    ),
    Entry(
        "E406", "The backend that was asked for cannot run here",
        "bitsandbytes is missing or has no kernels for this device; or unsloth cannot run and tuning.backend_fallback "
        "is false.",
        "Install it, set tuning.mode to lora, or allow the fallback.",
    ),
    Entry(
        "E407", "The 4-bit kernels do not compute what they should",
        "A build of bitsandbytes that does not fit this GPU, driver or CPU: training would run and learn nothing, or "
        "crash.",
        "Install the pinned versions again, update the driver; or train 16-bit weights: tuning.mode=lora.",
    ),
    Entry(
        "E408", "Matrix products do not compute what they should",
        "A build of torch that does not fit this device, or broken memory.",
        "Install the pinned torch again, update the driver; or train in float32: train.bf16=false train.fp16=false.",
    ),
    Entry(
        "E409", "The training does not fit into the free memory",
        "The estimate of weights, adapter, optimizer state and activations is more than what is free.",
        "Take the settings that are named, in this order; make estimate shows what each saves. Close other programs.",
    ),
    Entry(
        "E410", "The disk has no room for what a run writes",
        "Checkpoints (train.save_total_limit of them, one more while it is written), the adapter, the merged model.",
        "Free some space, lower train.save_total_limit, or set train.output_dir to a folder on a larger disk.",
    ),
    Entry(
        "E500", "Things that do not belong together",
        "A model in the store under a name that now means another one, and the like.",
        "The message names both.",
    ),
    Entry(
        "E600", "Another fault of the model, its tokenizer or its template",
        "A name that nobody has, a folder without weights, an architecture that cannot be trained here.",
        "The message says which; make download-model fetches a model.",
    ),
    Entry(
        "E601", "The chat template cannot be masked",
        "What it writes for an answered conversation does not go on from its own generation prompt, so that the answer "
        "cannot be told from the question.",
        "Set data.template_path to one of chat_templates/, or put generation tags around the answer.",
    ),
    Entry(
        "E602", "The chat template does not end an answer",
        "No special token of the model follows the answer: a model trained on it would not stop.",
        "Set data.template_path to one of chat_templates/, or write {{ eos_token }} behind the answer.",
    ),
    Entry(
        "E603", "The end of the turn is not trained",
        "The last trained token of the rows is none that stops generation: they were rendered for another model, or "
        "their ends were all cut off.",
        "make render for this model; or raise model.max_seq_len, or set data.truncation to drop.",
    ),
    Entry(
        "E700", "Another fault of the training",
        "Something that the learn-signal gate did not expect.",
        "The message says what.",
    ),
    Entry(
        "E701", "What is trained is not what tuning.mode says",
        "No tensor is trainable, a part of the adapter is frozen, or a part of the base is not.",
        "A fault of this project, of peft or of the model's own code: report it with the names of the tensors.",
    ),
    Entry(
        "E702", "A trainable tensor gets no gradient",
        "The adapter sits on layers that the loss does not depend on.",
        "Choose other tuning.lora.target_modules; all-linear suits most models.",
    ),
    Entry(
        "E703", "A loss, a gradient or a weight is not finite",
        "A learning rate that is too high, float16 that overflows, or rows that the model cannot read.",
        "Look at the rows that are named; lower train.learning_rate, or train in bf16 rather than fp16.",
    ),
    Entry(
        "E704", "A frozen tensor has changed",
        "Something writes into the base while the adapter is trained: the adapter would fit a base that nobody has.",
        "A fault of this project or of a library: report it with the names of the tensors.",
    ),
    Entry(
        "E705", "Ten steps on one batch do not lower its loss",
        "A learning rate that is far too low or far too high, or a model that does not learn from what is trained.",
        "Set train.learning_rate to auto.",
    ),
)  # fmt: skip
CATALOGUE = {entry.code: entry for entry in ENTRIES}


def code_of(error: SftError) -> str:
    """The code of an error: its own, or that of all others of its kind."""
    return error.code or f"E{error.exit_code}00"


def page() -> str:
    """The text of docs/ERRORS.md."""
    lines = [
        "# Errors", "",
        "*Made by `python scripts/config_doc.py` from `scripts/sftlib/errors/catalogue.py`; do not edit it by hand.*",
        "",
        "An error says what was seen, where, what was expected and what to do next. The kind of an error is the exit",
        "code of the command. What `make check` looks for has a code as well, wherever it is found; its first digit is",
        "the exit code. When `make check` finds several faults, it exits with the highest.",
        "", "| Exit code | Kind | What it means |", "| --- | --- | --- |",
        *(f"| {number} | {names} | {meaning} |" for number, (names, meaning) in KINDS.items()),
    ]  # fmt: skip
    for number, (names, _) in KINDS.items():
        entries = [entry for entry in ENTRIES if entry.exit_code == number]
        if entries:
            lines += ["", f"## {names}"]
        for entry in entries:
            lines += ["", f"### {entry.code}: {entry.title}", "", f"- **Cause.** {entry.cause}"]
            lines += [f"- **Cure.** {entry.cure}"]
    return "\n".join(lines) + "\n"

"""Silence for libraries that talk while they load: `console` says what a user needs to know.

    with quiet(): AutoModelForCausalLM.from_pretrained(...)

Only transformers' and huggingface_hub's own logs (below error) and progress bars are silenced, and restored after.
Worst bug: an error of theirs that is silenced too (tests/model/test_quiet.py).
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers.utils import logging


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No bars, and only errors, from transformers and huggingface_hub inside the block."""
    verbosity, bars, hub_silent = (
        logging.get_verbosity(),
        logging.is_progress_bar_enabled(),
        are_progress_bars_disabled(),
    )
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Paged optimizers are not supported on CPU")  # build.settle says it
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
        if hub_silent:
            disable_progress_bars()
        else:
            enable_progress_bars()

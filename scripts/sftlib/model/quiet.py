"""Silence for libraries that talk while they load: `console` says what a user needs to know.

    with quiet(): AutoModelForCausalLM.from_pretrained(...)

Only transformers' and huggingface_hub's own logs (below error) and progress bars are silenced, and restored after.
transformers is not imported for it: a download needs none, and unsloth wants to come first (backend/unsloth.py).

Worst bug: an error of theirs that is silenced too (tests/model/test_quiet.py).
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator

from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No bars, and only errors, from huggingface_hub, and from transformers if it is loaded, inside the block."""
    hub_silent = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with (
            _quiet_transformers() if "transformers" in sys.modules else contextlib.nullcontext(),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", "Paged optimizers are not supported on CPU")  # build.settle says it
            yield
    finally:
        if hub_silent:
            disable_progress_bars()
        else:
            enable_progress_bars()


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()

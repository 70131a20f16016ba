"""Silence inside the block, the user's settings after it."""

from __future__ import annotations

from transformers.utils import logging

from sftlib.model.quiet import quiet


def test_silences_and_restores():
    logging.set_verbosity_info()
    logging.enable_progress_bar()
    logger = logging.get_logger("transformers.test")
    try:
        with quiet():
            assert logging.get_verbosity() == logging.ERROR
            assert not logging.is_progress_bar_enabled()
            assert logger.isEnabledFor(logging.ERROR)  # errors are never silenced
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity_warning()


def test_bars_that_were_off_stay_off():
    logging.disable_progress_bar()
    try:
        with quiet():
            pass
        assert not logging.is_progress_bar_enabled()
    finally:
        logging.enable_progress_bar()

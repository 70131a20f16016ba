"""The run: its folder, the stamp that says what made it, what is refused, and the server of its curves."""

from .folder import RunFolder, default_name, find_run, open_run
from .occupied import ask_to_stop
from .stamp import Difference, Stamp, compare, matching_settings

__all__ = [
    "Difference", "RunFolder", "Stamp", "ask_to_stop", "compare", "default_name", "find_run", "matching_settings",
    "open_run",
]  # fmt: skip

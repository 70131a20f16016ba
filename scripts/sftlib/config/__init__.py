"""The config: one schema, one reader of YAML, one place that says what is wrong with it.

    from sftlib import config
    settings = config.load_config("configs/run_bnb.yaml", ["train.learning_rate=1e-4"])
    settings.train.learning_rate  ->  0.0001

A name is imported when it is first used, so that `--help` answers without pydantic and PyYAML.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loader import load_config, load_with_origins
    from .options import add_config_options
    from .schema import (
        Config,
        DataSection,
        DatasetSection,
        EvalSection,
        InferSection,
        LoggingSection,
        LoraSection,
        MixingSection,
        ModelSection,
        SplitSection,
        StyleSection,
        TrainSection,
        TuningSection,
    )
    from .settling import settle_schedule, unheeded
    from .writing import print_config, to_yaml

_ROOMS = {
    "load_config": "loader",
    "load_with_origins": "loader",
    "add_config_options": "options",
    "settle_schedule": "settling",
    "unheeded": "settling",
    "print_config": "writing",
    "to_yaml": "writing",
}

__all__ = [
    "Config",
    "DataSection",
    "DatasetSection",
    "EvalSection",
    "InferSection",
    "LoggingSection",
    "LoraSection",
    "MixingSection",
    "ModelSection",
    "SplitSection",
    "StyleSection",
    "TrainSection",
    "TuningSection",
    "add_config_options",
    "load_config",
    "load_with_origins",
    "print_config",
    "settle_schedule",
    "to_yaml",
    "unheeded",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_ROOMS.get(name, 'schema')}", __name__), name)

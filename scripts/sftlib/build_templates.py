"""Assembly of `make templates`: the shipped templates, and how each fits the model of a config. No torch, no weights.

    fit_model(config)  ->  the model's name, a `Fit` for each template, and which to take

Only a model.name of `auto` asks the machine, and with it torch, which model that is.

Worst bug: another model than the one that is trained (tests/chat/test_templates_script.py).
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from . import console
from .chat.fitting import Advice, Fit, advise, fit_templates
from .chat.model_files import read_model_template
from .chat.shipped import read_heads
from .chat.templates import require_template
from .config.schema import Config, ModelSection
from .errors import UsageError
from .model.store import find_text

WIDTH = 110


def show_shipped() -> None:
    """Print what every shipped template is for, its source and in what it differs."""
    for head in read_heads():
        console.result(f"chat_templates/{head.name}.jinja")
        for title, text in (("for", head.models), ("source", head.source), ("differs", head.differences)):
            lines = textwrap.wrap(text, WIDTH - 13, break_long_words=False, break_on_hyphens=False)
            for index, line in enumerate(lines):
                console.result(f"  {title if not index else '':<10} {line}")
        console.result()


def fit_model(config: Config) -> tuple[str, list[Fit], Advice]:
    """The name of the config's model, how each shipped template fits it, and which to take."""
    section = _settled(config)
    if section.type == "seq2seq":
        raise UsageError(
            "An encoder-decoder reads the prompt and answers with a text of its own: it has no chat template.",
            where="model.type", expected="a causal model", cure="Leave data.template_path on auto.",
        )  # fmt: skip
    folder = find_text(section)
    model = read_model_template(folder)
    named = config.data.template_path
    fits = fit_templates(folder, model, [] if named in ("auto", "plain") else [require_template(named)])
    return section.name, fits, advise(model, fits)


def show_fits(name: str, fits: Sequence[Fit], advice: Advice, named: str) -> None:
    """Print how each template fits, which the config names, and what to take."""
    rows = [(fit.name, fit.grade, fit.why) for fit in fits]
    console.table(f"For {name}", ["template", "fits", "why"], rows)
    console.result()
    console.result(f"data.template_path: auto takes {advice.auto}.")
    for fit in fits:
        if named not in ("auto", "plain") and fit.name == Path(named).name:
            console.result(f"The config names {named}: {fit.grade}; {fit.why}.")
    console.result(f"Take {advice.path or 'none of these'}: {advice.why}.")


def _settled(config: Config) -> ModelSection:
    if config.model.name != "auto":
        return config.model
    from .build import settle

    return settle(config).model

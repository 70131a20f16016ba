"""Configs of Axolotl and LLaMA-Factory as configs of ours: what has a meaning here, with the same meaning.

Comes in: the tool's name and the path of its YAML file. Goes out: a `Conversion` whose text is a commented config, or
one ConfigError that holds every refusal with its file and line. The text is read by our own loader before anybody sees
it. Nothing here trains or reads data.

    convert("axolotl", Path("x.yml")).text(Path("configs/y.yaml"))    ->  "# From x.yml ...\\ninclude: ..."

Worst bug: a training that is another one than there, without a word (tests/config/converting/).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ... import console
from ...errors import ConfigError, UsageError
from ...files import write_text
from ..faults import Fault, as_error
from ..loader import load_config
from ..reading import Layer
from ..writing import scalar
from . import axolotl, llamafactory
from .draft import Draft, Line, Note
from .foreign import read_section
from .writing import config_text

TOOLS: Mapping[str, tuple[str, Callable[[Draft], None]]] = {
    "axolotl": ("Axolotl", axolotl.convert),
    "llamafactory": ("LLaMA-Factory", llamafactory.convert),
}


@dataclass(frozen=True)
class Conversion:
    """What a config has become: settings of ours with their origins, what is different, what is left out."""

    tool: str
    file: str
    lines: Mapping[str, Line]
    differences: list[Note]
    left_out: list[Note]

    def text(self, out: Path) -> str:
        """The config as it is to stand at `out`: the path of what it includes depends on it."""
        return config_text(self.tool, self.file, self.lines, self.differences, self.left_out, out)


def convert(tool: str, path: Path, devices: int = 1) -> Conversion:
    """Convert a file of that tool; devices: the GPUs that took part there.

    Raises ConfigError with every refusal, and UsageError when the file cannot be read.
    """
    name, fill = TOOLS[tool]
    layer = Layer()
    try:
        keys = read_section(path, str(path), layer)
    except OSError as error:
        raise UsageError(
            f"The file cannot be read: {error.strerror}.", where=str(path), expected=f"a config of {name}",
            cure="Name it with IN=file.yml.",
        ) from None  # fmt: skip
    if keys is not None:
        draft = Draft(name, str(path), keys, layer, devices)
        fill(draft)
    if layer.faults:
        raise as_error(layer.faults, f"reasons why this config of {name} is not converted")
    result = Conversion(name, str(path), draft.lines, draft.differences, draft.left_out)
    _check(result)
    return result


def show(result: Conversion) -> None:
    """Print what each key has become, and what is left out and why."""
    rows = [(line.origin, name, scalar(line.value)) for name, line in result.lines.items()]
    console.table(f"{result.file} ({result.tool}): converted", ["there", "here", "value"], rows)
    for title, notes in (("not as it was there", result.differences), ("left out", result.left_out)):
        if notes:
            console.result()
            console.table(title, ["key", "at", "why"], notes)


def write(result: Conversion, out: Path) -> None:
    """Write the config, whole or not at all."""
    try:
        write_text(out, result.text(out))
    except OSError as error:
        raise UsageError(
            f"The config cannot be written: {error.strerror}.",
            where=str(out),
            cure="Choose another place: OUT=file.yaml",
        ) from None


def _check(result: Conversion) -> None:
    """Read the text with our own loader. ConfigError when it refuses a value, at the place of the other tool."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "converted.yaml"
        path.write_text(result.text(path), encoding="utf-8")
        try:
            load_config(path)
        except ConfigError as error:
            seen = str(error).replace(str(path), "the converted config")
            raise as_error([Fault(result.file, f"What it says is no config of ours. {seen}")]) from None


__all__ = ["TOOLS", "Conversion", "convert", "show", "write"]

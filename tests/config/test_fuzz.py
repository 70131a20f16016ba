"""Whatever happens to a config file, it ends in a Config or in a ConfigError that names the file."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from sftlib.config import load_config, to_yaml
from sftlib.config.keys import keys, sections
from sftlib.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SMOKE = (ROOT / "configs" / "run_smoke.yaml").read_text().replace("include: config_base.yaml", "")
BASE = (ROOT / "configs" / "config_base.yaml").read_text()
NAMES = [
    *keys(),
    *(name for name in sections() if name),
    *(name.rpartition(".")[2] for name in keys()),
    "include",
    "<<",
    "lr",
]
PIECES = st.one_of(
    st.sampled_from([*"\t\n:{}[]\"'#&*!|>%@`-?,~=\\", ": ", "\n  ", "- ", "<<: ", "&a ", "*a", "!!map ", "|\n"]),
    st.sampled_from(["\ufeff", "\0", "\u2028", "\x85", "é", "...", "---\n", '"\\ud800"', "[[[", "9" * 30, "mine.yaml"]),
    st.sampled_from(["null", "no", "1e400", ".nan", "-1", "0", "010", "1:30", "true", "[]", "{}", "''"]),
    st.sampled_from(NAMES),
    st.text(max_size=5),
)  # fmt: skip
EDIT = st.tuples(
    st.sampled_from(["insert", "delete", "replace", "line", "drop line", "value"]), st.integers(0, 10**6), PIECES
)


def edited(text: str, edits: list[tuple[str, int, str]]) -> str:
    for kind, where, piece in edits:
        lines = text.split("\n")
        line = where % len(lines)
        spot = where % (len(text) + 1)
        if kind == "insert":
            text = text[:spot] + piece + text[spot:]
        elif kind == "delete":
            text = text[:spot] + text[spot + 1 + len(piece) :]
        elif kind == "replace":
            text = text[:spot] + piece + text[spot + len(piece) :]
        elif kind == "drop line":
            text = "\n".join(lines[:line] + lines[line + 1 :])
        elif kind == "line":
            indent = " " * (where % 3 * 2)
            text = "\n".join([*lines[:line], f"{indent}{piece}: {where % 100}", *lines[line:]])
        elif ":" in lines[line]:
            text = "\n".join([*lines[:line], lines[line].split(":")[0] + ": " + piece, *lines[line + 1 :]])
    return text


def outcome(path: Path, *overrides: str) -> str:
    """What is said about a config; '' when it is read. Every other exception is a bug of ours."""
    try:
        config = load_config(path, overrides)
    except ConfigError as error:
        said = str(error)
        said.encode("utf-8")  # it can be printed
        return said
    assert load_config(path, overrides) == config
    to_yaml(config).encode("utf-8")
    return ""


@settings(max_examples=300, deadline=None)
@given(text=st.sampled_from([SMOKE, SMOKE, SMOKE, BASE]), edits=st.lists(EDIT, min_size=1, max_size=6))
def test_an_edited_file_is_read_or_refused(tmp_path_factory, text, edits):
    path = tmp_path_factory.getbasetemp() / "mine.yaml"
    path.write_bytes(edited(text, edits).encode("utf-8", "surrogatepass"))
    said = outcome(path)
    assert not said or "mine.yaml" in said


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(NAMES) | st.text(max_size=8), value=st.lists(PIECES, max_size=4).map("".join))
def test_any_override_is_read_or_refused(tmp_path_factory, name, value):
    path = tmp_path_factory.getbasetemp() / "empty.yaml"
    path.write_text("")
    said = outcome(path, f"{name}={value}")
    assert not said or "--set " in said

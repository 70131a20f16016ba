"""Forms of answers, and schemas that cannot be used."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from sftlib.errors import ConfigError
from sftlib.measure.validity import JsonSchemaCheck, RegexCheck, load_checks

SCHEMA = {
    "type": "object",
    "properties": {"name": {"$ref": "#/$defs/text"}, "age": {"type": "integer"}},
    "required": ["name"],
    "$defs": {"text": {"type": "string", "minLength": 1}},
}


@pytest.mark.parametrize(
    ("answer", "holds"),
    [
        ('{"name": "Ada", "age": 36}', True),
        (' {"name": "Ada"}\n', True),
        ('{"name": ""}', False),
        ('{"age": 36}', False),
        ('{"name": "Ada", "age": NaN}', False),
        ('```json\n{"name": "Ada"}\n```', False),
        ('{"name": "Ada"} and more', False),
        ("", False),
        ("[" * 100_000, False),
    ],
)
def test_json_schema(answer: str, holds: bool):
    assert JsonSchemaCheck(SCHEMA).holds(answer) is holds


@pytest.mark.parametrize(
    ("answer", "holds"), [("12 m", True), ("12 m.", False), ("about 12 m", False), ("12 m\n", False)]
)
def test_regex_matches_the_whole_answer(answer: str, holds: bool):
    assert RegexCheck("[0-9]+ m").holds(answer) is holds


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "objekt"}, "no JSON Schema"),
        ({"$ref": "#/$defs/missing"}, "/$defs/missing"),
        ({"$ref": "https://example.com/person.json"}, "example.com"),
    ],
)
def test_an_unusable_schema_is_refused_without_a_connection(monkeypatch, schema: dict, says: str):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a socket was opened"))
    with pytest.raises(ConfigError) as caught:
        JsonSchemaCheck(schema, where="person.json")
    assert says in str(caught.value)
    assert "person.json" in caught.value.where


def test_checks_of_the_config(tmp_path: Path):
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA), encoding="utf-8")
    assert [check.name for check in load_checks(str(file), "x+")] == ["valid_json", "matches_regex"]
    assert load_checks(None, None) == []
    with pytest.raises(ConfigError, match="no file"):
        load_checks(str(tmp_path / "none.json"), None)
    file.write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="not JSON"):
        load_checks(str(file), None)

"""Whether an answer has a form that was asked for: JSON that satisfies a schema, or a text that matches an expression.

    JsonSchemaCheck({"type": "object"}).holds('{"name": "Ada"}')  ->  True
    RegexCheck("[0-9]+ m").holds("12 m")                          ->  True

The whole answer has to be of that form: JSON in a Markdown fence is not JSON. A schema that cannot be used is a
ConfigError before anything is generated, and none makes us open a connection. Expressions are checked by the config.

Worst bug: a broken schema that every answer passes (tests/measure/test_validity.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, Protocol

from ..errors import ConfigError
from ..files import read_json


class Check(Protocol):
    """A question to one answer; `name` is the metric's."""

    name: str

    def holds(self, answer: str) -> bool:
        """Whether the answer has the form."""


def load_checks(json_schema: str | None, pattern: str | None) -> list[Check]:
    """The checks of the config: `eval.json_schema` is a file, `eval.regex` an expression; either may be missing."""
    checks: list[Check] = []
    if json_schema is not None:
        checks.append(JsonSchemaCheck(_read_schema(Path(json_schema)), where=json_schema))
    if pattern is not None:
        checks.append(RegexCheck(pattern))
    return checks


class JsonSchemaCheck:
    """Answers that are JSON (RFC 8259: no NaN) and satisfy a JSON Schema."""

    name = "valid_json"

    def __init__(self, schema: Any, where: str = "eval.json_schema") -> None:
        from jsonschema import SchemaError
        from jsonschema.validators import validator_for
        from jsonschema_specifications import REGISTRY
        from referencing.exceptions import Unresolvable
        from referencing.jsonschema import DRAFT202012

        kind = validator_for(schema)
        try:
            kind.check_schema(schema)
            root = REGISTRY.resolver_with_root(DRAFT202012.create_resource(schema))
            for reference in _references(schema):
                root.lookup(reference)
        except SchemaError as error:
            raise ConfigError(
                f"This is no JSON Schema: {error.message}.",
                where=f"{where}: {error.json_path}",
                cure="Correct the schema; https://json-schema.org/learn has examples.",
            ) from error
        except Unresolvable as error:
            raise ConfigError(
                f"The schema points to {error.ref!r}, which is not in it.",
                where=where,
                expected="references into the same file; nothing is fetched",
                cure="Copy what it points to into the schema, under $defs.",
            ) from error
        # With a registry of its own it fetches nothing: jsonschema's default one would.
        self._validator = kind(schema, registry=REGISTRY)

    def holds(self, answer: str) -> bool:
        """Whether the whole answer is JSON and satisfies the schema."""
        try:
            value = json.loads(answer, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return False
        return self._validator.is_valid(value)


class RegexCheck:
    """Answers that match a regular expression (Python's `re`) from their first to their last character."""

    name = "matches_regex"

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)

    def holds(self, answer: str) -> bool:
        """Whether the whole answer matches."""
        return self._pattern.fullmatch(answer) is not None


def _read_schema(path: Path) -> Any:
    try:
        return read_json(path)
    except FileNotFoundError as error:
        raise ConfigError(f"There is no file {path}.", where="eval.json_schema", expected="a JSON Schema") from error
    except ValueError as error:
        raise ConfigError(f"The file is not JSON: {error}.", where=str(path), expected="a JSON Schema") from error


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")

"""What examples depend on besides rows, template and options: the tokenizer's files, and the code that makes them.

    tokenizer_digest("models/m")  ->  "9f2c..."      code_version()  ->  "41aa..."

Nothing heavy is imported, so that `make prepare` can say at once that nothing has changed.
Worst bug: a source that makes examples and is no part of the version (tests/tokens/test_cache.py).
"""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import version
from pathlib import Path

from ..files import sha256_file, sha256_text

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
    "spiece.model", "vocab.json", "vocab.txt", "merges.txt",
)  # fmt: skip
ROOMS = Path(__file__).resolve().parents[1]
CODE = ("chat/conversation.py", "chat/stored.py", "chat/sandbox.py", "chat/tracing.py", "chat/templates.py",
        "chat/rendering.py", "chat/pairs.py", "chat/trained.py", "chat/turns.py", "chat/sentences.py",
        "chat/provenance.py", "tokens/examples.py", "tokens/encoding.py", "tokens/spelling.py", "tokens/columns.py",
        "tokens/pairs.py", "tokens/length.py", "tokens/shortening.py", "tokens/answer_parts.py", "tokens/making.py",
        "tokens/cache.py", "tokens/identity.py", "tokens/table.py", "tokens/remarks.py")  # fmt: skip
CALLED = ("jinja2", "sentencex", "tokenizers", "transformers")


def tokenizer_digest(folder: str | Path) -> str:
    """Hash of the files that make the tokenizer in a model's folder."""
    files = [Path(folder) / name for name in TOKENIZER_FILES]
    return sha256_text(json.dumps({file.name: sha256_file(file) for file in files if file.is_file()}))


@cache
def code_version() -> str:
    """Hash of the sources that turn a row into an example, and of the versions of what they call."""
    return sha256_text(
        json.dumps({name: sha256_file(ROOMS / name) for name in CODE} | {name: version(name) for name in CALLED})
    )

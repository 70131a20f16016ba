"""What a model's folder says is what AutoTokenizer sees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sftlib.chat.model_files import read_model_template
from sftlib.chat.templates import choose_template
from sftlib.errors import ModelError

MESSAGES = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.role + m.content + eos_token }}{% endfor %}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tokenizer as transformers saves it."""
    from tokenizers import AddedToken, Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    raw.add_tokens([AddedToken("<think>", special=False)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", extra_special_tokens=["<|x|>"], chat_template=TEMPLATE
    )
    fast.save_pretrained(tmp_path)
    return tmp_path


def edit(folder: Path, name: str = "tokenizer_config.json", **changes: object) -> None:
    path = folder / name
    value = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    value.update(changes)
    path.write_text(json.dumps({k: v for k, v in value.items() if v != "DELETE"}), encoding="utf-8")


def check(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    seen = read_model_template(folder)
    template = tokenizer.chat_template
    assert seen.template == (template["default"] if isinstance(template, dict) else template)
    assert seen.special_tokens == tokenizer.special_tokens_map
    assert seen.markers == {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    if seen.template:
        text = tokenizer.apply_chat_template(MESSAGES, tokenize=False)
        assert choose_template("auto", *seen).render(MESSAGES) == text


def test_as_saved(folder: Path) -> None:
    check(folder)
    seen = read_model_template(folder)
    assert seen.template == TEMPLATE
    assert seen.special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}
    assert seen.markers == {"<s>", "</s>", "<|x|>"}  # <think> is a token of its own, but not a special one


def test_template_in_the_config(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    check(folder)
    assert read_model_template(folder).template is None
    edit(folder, chat_template="{{ messages[0].content }}é")
    check(folder)
    edit(
        folder, chat_template=[{"name": "tool_use", "template": "t"}, {"name": "default", "template": "{{ messages }}"}]
    )
    check(folder)
    assert read_model_template(folder).template == "{{ messages }}"


def test_the_file_comes_before_the_config(folder: Path) -> None:
    edit(folder, chat_template="{{ messages }}")
    check(folder)
    assert read_model_template(folder).template == TEMPLATE


def test_tokens_written_as_objects_and_absent_ones(folder: Path) -> None:
    token = {
        "__type": "AddedToken",
        "content": "</s>",
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    edit(folder, eos_token=token, bos_token=None)
    check(folder)
    assert read_model_template(folder).special_tokens == {"eos_token": "</s>"}


def test_special_tokens_map_fills_a_config_without_added_tokens(folder: Path) -> None:
    edit(folder, "special_tokens_map.json", eos_token={"content": "<|x|>", "lstrip": False}, pad_token="<s>")
    check(folder)
    assert read_model_template(folder).special_tokens["eos_token"] == "<|x|>"


def test_special_tokens_map_is_passed_over_by_a_config_with_added_tokens(folder: Path) -> None:
    added = {
        "5": {
            "content": "<|x|>",
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "single_word": False,
            "special": True,
        }
    }
    edit(folder, added_tokens_decoder=added)
    edit(folder, "special_tokens_map.json", eos_token="<|x|>")
    check(folder)
    assert read_model_template(folder).special_tokens["eos_token"] == "</s>"


def test_named_tokens_of_the_models_own(folder: Path) -> None:
    edit(folder, extra_special_tokens={"image_token": "<|x|>"})
    check(folder)
    assert read_model_template(folder).special_tokens["image_token"] == "<|x|>"


def test_ids_tell_where_no_file_names_a_token(folder: Path) -> None:
    edit(folder, bos_token="DELETE", eos_token="DELETE")
    edit(folder, "config.json", bos_token_id=0, eos_token_id=1)
    edit(folder, "generation_config.json", eos_token_id=[3, 1])
    added = {
        token["id"]: token["content"] for token in json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    }
    assert read_model_template(folder).special_tokens == {"bos_token": "a", "eos_token": added[3]}


def test_ids_tell_in_a_unigram_vocabulary(tmp_path: Path) -> None:
    edit(tmp_path, "tokenizer.json", model={"vocab": [["<unk>", 0.0], ["</s>", 0.0]]})
    edit(tmp_path, "config.json", eos_token_id=1)
    assert read_model_template(tmp_path).special_tokens == {"eos_token": "</s>"}


def test_the_tiny_model(tiny_model: Path) -> None:
    check(tiny_model)


def test_a_real_model() -> None:
    smol = Path("/tmp/w/smol")
    if not smol.exists():
        pytest.skip("no SmolLM2 on this machine")
    check(smol)


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no tokenizer"):
        read_model_template(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_broken_file(folder: Path, text: str) -> None:
    (folder / "tokenizer_config.json").write_text(text)
    with pytest.raises(ModelError, match="JSON") as caught:
        read_model_template(folder)
    assert caught.value.where.endswith("tokenizer_config.json")

"""Which template fits which model: grades on models whose tokenizer and template are written by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from families import FAMILIES

from sftlib.chat.fitting import PROBES, Fit, advise, fit_templates
from sftlib.chat.model_files import read_model_template, read_pieces, read_stops
from sftlib.chat.templates import SHIPPED

# SmolLM2's own, as its publisher has it: default.jinja behind a default system text.
SMOL = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou "
    "are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + "
    "message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def model(folder: Path, name: str, template: str | None, *, added: tuple[str, ...] = (), stops: tuple[str, ...] = ()):
    """A folder with the tokenizer files of a model that speaks the family of a shipped template."""
    family = FAMILIES[name]
    tokens = sorted({*family.tokens.values(), *family.markers, family.end, *added})
    entries = [{"id": number, "content": token, "special": True} for number, token in enumerate(tokens)]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": entries, "model": {"vocab": {"a": 99}}}))
    config = dict(family.tokens) | ({"chat_template": template} if template else {})
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    ids = [entry["id"] for entry in entries if entry["content"] in stops]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    return read_model_template(folder)


def fits(folder: Path, seen) -> dict[str, Fit]:
    return {fit.name.removesuffix(".jinja"): fit for fit in fit_templates(folder, seen)}


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_template_is_the_same_as_itself(tmp_path, name):
    family_tokens = ("<think>", "</think>")
    seen = model(tmp_path, name, (SHIPPED / f"{name}.jinja").read_text(encoding="utf-8"), added=family_tokens)
    found = fits(tmp_path, seen)
    assert found[name].grade == "same"
    assert (found[name].other, found[name].refused, found[name].missing) == ((), (), ())
    assert found[name].end == FAMILIES[name].end
    others = {other for other, fit in found.items() if fit.grade == "same"} - {name}
    assert others <= {"gemma2": {"gemma3"}, "gemma3": {"gemma2"}, "default": {"chatml"}}.get(name, set())


def test_a_model_with_a_text_of_its_own(tmp_path):
    found = fits(tmp_path, model(tmp_path, "smollm2", SMOL, stops=("<|im_end|>",)))
    assert next(iter(found)) == "smollm2"
    smol = found["smollm2"]
    assert (smol.grade, smol.other, smol.refused) == ("near", (), ("a tool call",))
    assert smol.is_stop
    assert smol.why == "the text of the model's own but for a tool call; a turn ends with <|im_end|>"
    assert found["default"].grade == "possible"
    assert found["default"].other == ("one turn", "several turns", "an empty system text")
    assert found["llama3"].grade == "unfit"
    assert found["llama3"].missing == ("<|end_header_id|>", "<|eot_id|>", "<|start_header_id|>")
    assert "no single token here: <|end_header_id|>" in found["llama3"].why


def test_another_generation_prompt_is_another_text(tmp_path):
    """The conversations are equal, and what the model is asked with is not."""
    source = (SHIPPED / "default.jinja").read_text(encoding="utf-8")
    asked = source.replace(
        "{{- '<|im_start|>assistant\\n' }}\n{%- endif %}", "{{- '<|im_start|>bot\\n' }}\n{%- endif %}"
    )
    assert asked != source
    found = fits(tmp_path, model(tmp_path, "default", asked))
    assert found["default"].grade == "possible"
    assert set(found["default"].other) == {"one turn", "several turns", "a system text", "an empty system text"}


def test_the_best_comes_first_and_nothing_is_graded_without_reason(tmp_path):
    found = list(fits(tmp_path, model(tmp_path, "qwen2.5", (SHIPPED / "qwen2.5.jinja").read_text())).values())
    grades = [fit.grade for fit in found]
    assert grades == sorted(grades, key=["same", "near", "possible", "unfit"].index)
    assert len(found) == len(FAMILIES)
    for fit in found:
        assert bool(fit.missing) is (fit.grade == "unfit")
        assert set(fit.other) | set(fit.refused) <= set(PROBES)


def test_the_models_own_is_taken(tmp_path):
    seen = model(tmp_path, "smollm2", SMOL)
    advice = advise(seen, fit_templates(tmp_path, seen))
    assert (advice.auto, advice.path) == ("the model's own", "auto")


def test_where_the_own_cannot_be_trained_on_one_with_the_same_text_is(tmp_path):
    """It writes the conversation, but its generation prompt is no beginning of it."""
    broken = SMOL.replace("'<|im_start|>assistant\n' }}{% endif %}", "'<|im_start|>assistant: ' }}{% endif %}")
    seen = model(tmp_path, "smollm2", broken)
    advice = advise(seen, fit_templates(tmp_path, seen))
    assert "cannot be trained on" in advice.why
    assert advice.path == ""


def test_a_model_without_a_template(tmp_path):
    seen = model(tmp_path, "default", None)
    advice = advise(seen, fit_templates(tmp_path, seen))
    assert (advice.auto, advice.path) == ("chat_templates/default.jinja", "auto")
    why = "its markers are tokens; a turn ends with <|im_end|>, which the model learns to stop at"
    assert fits(tmp_path, seen)["default"].why == why
    seen = model(tmp_path, "llama3", None)
    advice = advise(seen, fit_templates(tmp_path, seen))
    assert (advice.auto, advice.path) == ("plain", "auto")
    assert "llama3.jinja can be had" in advice.why


def test_every_token_and_those_that_stop(tmp_path):
    seen = model(tmp_path, "llama3", None, stops=("<|end_header_id|>",))
    assert {"a", "<|eot_id|>", "<|start_header_id|>"} <= read_pieces(tmp_path)
    assert read_stops(tmp_path, seen) == {"<|eot_id|>", "<|end_header_id|>"}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": [["<unk>", 0.0], ["b", -1.0]]}}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": {"7": {"content": "<x>"}}}))
    assert read_pieces(tmp_path) == {"<unk>", "b", "<x>"}


def test_a_file_of_ones_own_is_judged_too(tmp_path):
    seen = model(tmp_path, "smollm2", SMOL)
    mine = tmp_path / "mine.jinja"
    mine.write_text(SMOL.replace("system\n", "system: "), encoding="utf-8")
    found = {fit.name: fit for fit in fit_templates(tmp_path, seen, [mine, SHIPPED / "chatml.jinja"])}
    assert len(found) == len(FAMILIES) + 1
    assert (found["mine.jinja"].grade, found["mine.jinja"].end) == ("possible", "<|im_end|>")

"""The kind is read off config.json, and what model.type says must agree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_t5 import make_t5

from sftlib.config.schema import TuningSection
from sftlib.errors import ConfigError, ModelError
from sftlib.memory.probe import Device
from sftlib.model import verify
from sftlib.model.backend import choose_backend
from sftlib.model.kind import auto_class, check_kind, decoder_start, kind_of
from sftlib.model.precision import Precision


def folder_with(path: Path, **config: object) -> Path:
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return path


def test_which_class_loads_it(tmp_path: Path) -> None:
    assert kind_of({"model_type": "llama"}).name == "causal"
    assert kind_of({"model_type": "t5"}).task_type == "SEQ_2_SEQ_LM"  # an old config that does not say
    assert auto_class(folder_with(tmp_path, model_type="t5")).__name__ == "AutoModelForSeq2SeqLM"
    assert auto_class(folder_with(tmp_path, model_type="qwen2")).__name__ == "AutoModelForCausalLM"


def test_a_mismatch_names_the_right_type(tmp_path: Path) -> None:
    check_kind("seq2seq", folder_with(tmp_path, model_type="t5", is_encoder_decoder=True))
    with pytest.raises(ConfigError) as caught:
        check_kind("causal", tmp_path)
    assert caught.value.cure.startswith("Set model.type to seq2seq")
    check_kind("causal", folder_with(tmp_path, model_type="llama"))
    with pytest.raises(ConfigError, match="a decoder only"):
        check_kind("seq2seq", tmp_path)


def test_encoder_decoders_that_end_their_texts_otherwise_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="`bart`"):
        check_kind("seq2seq", folder_with(tmp_path, model_type="bart", is_encoder_decoder=True))
    unequal = {"model_type": "t5", "is_encoder_decoder": True, "num_layers": 4, "num_decoder_layers": 2}
    with pytest.raises(ModelError, match="4 encoder and 2 decoder layers"):
        check_kind("seq2seq", folder_with(tmp_path, **unequal))


def test_what_the_decoder_begins_with(tmp_path: Path) -> None:
    assert decoder_start(make_t5(tmp_path / "t5")) == 0
    assert decoder_start(folder_with(tmp_path, model_type="mt5", pad_token_id=7)) == 7
    assert decoder_start(folder_with(tmp_path, model_type="llama")) is None
    with pytest.raises(ModelError, match="what the decoder begins with"):
        decoder_start(folder_with(tmp_path, model_type="t5", decoder_start_token_id=None))


@pytest.mark.parametrize("tie", [True, False], ids=["tied head", "own head"])
def test_in_4_bits_it_is_the_model_with_rounded_weights(tie: bool, tmp_path: Path) -> None:
    """Every layer but the head and `wo` (which transformers keeps whole in a T5) is rounded; nothing else differs."""
    import torch
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    folder = make_t5(tmp_path / "t5", tie=tie)
    cpu = Device("cpu", "test CPU", 2**34, 2**33)
    fp32 = Precision("fp32", torch.float32, "a test")
    rounded, plain = (
        choose_backend(TuningSection(mode=mode), cpu).load_base(folder, precision=fp32, device=cpu)
        for mode in ("qlora", "lora")
    )
    layers = {name: module for name, module in rounded.named_modules() if isinstance(module, Linear4bit)}
    assert {name.rpartition(".")[2] for name in layers} == {"q", "k", "v", "o", *(("wi",) if tie else ("wi_0", "wi_1"))}
    with torch.no_grad():
        for name, layer in layers.items():
            weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
            assert not torch.equal(weight, plain.get_submodule(name).weight)
            plain.get_submodule(name).weight.copy_(weight)
        ids = torch.arange(3, 19).reshape(2, 8)
        ours, theirs = (model.eval()(input_ids=ids, decoder_input_ids=ids).logits for model in (rounded, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_merge_is_compared_where_the_answer_is_given(tmp_path: Path) -> None:
    """The encoder reads the prompt alone, and the distributions are those from which the answer was chosen."""
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    folder = make_t5(tmp_path / "t5")
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer("What is 1 and 2?", return_tensors="pt").input_ids
    inputs, count = verify._answer(model, tokenizer, prompt)
    assert torch.equal(inputs["input_ids"], prompt)
    answer = inputs["decoder_input_ids"][0, 1:]
    logprobs = verify._logprobs(model, inputs, count)
    assert logprobs.shape == (count, 128)
    assert logprobs.argmax(-1).tolist() == answer.tolist()

"""Generation on a tiny random model in float32: the same answers however the prompts are batched, and clean ends."""

from __future__ import annotations

import copy
import logging
from types import SimpleNamespace

import pytest
import torch

from sftlib import console
from sftlib.errors import DataError, MachineError
from sftlib.measure import generate
from sftlib.measure.generate import Answer, Sampling, generate_answers
from sftlib.measure.refilled import Refilled
from sftlib.measure.whole_batches import WholeBatches

READING = {"refilled": (Refilled, "_read"), "whole batches": (WholeBatches, "_generate")}  # prompts together, each way


@pytest.fixture(params=READING, autouse=True)
def way(request, monkeypatch) -> str:
    """Everything here holds for both ways of answering."""
    if request.param == "whole batches":
        monkeypatch.setattr(generate, "suits", lambda model: False)
    return request.param


def on_reading(monkeypatch, way: str, look) -> None:
    """Have `look` see the ids of the prompts that are read together, before they are."""
    desk, name = READING[way]
    real = getattr(desk, name)

    def reading(self, batch):
        look([getattr(one, "ids", one) for one in batch])
        return real(self, batch)

    monkeypatch.setattr(desk, name, reading)


def answers(speaker: SimpleNamespace, prompts: list[str], **changes) -> list[Answer]:
    settings = {"max_new_tokens": 12, "batch_size": 3, "stop_ids": speaker.stop_ids} | changes
    return generate_answers(speaker.model, speaker.tokenizer, prompts, **settings)


def reference(speaker: SimpleNamespace, prompt: str, tokens: int) -> list[int]:
    """Greedy decoding as the definition says: no cache, no padding, no generate()."""
    ids = speaker.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    start = len(ids)
    with torch.no_grad():
        while len(ids) - start < tokens:
            ids.append(int(speaker.model.eval()(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[start:]


def test_the_answer_is_greedy_decoding_of_each_prompt_alone(speaker, prompts):
    expected = [
        speaker.tokenizer.decode(reference(speaker, prompt, 12), skip_special_tokens=True) for prompt in prompts
    ]
    assert len(set(expected)) == len(expected)  # they differ, so a mix-up would show
    assert [answer.text for answer in answers(speaker, prompts, stop_ids=[])] == [text.strip() for text in expected]


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(repetition_penalty=1.3)], ids=["greedy", "penalty"])
def test_answers_do_not_depend_on_the_batch(speaker, prompts, batch_size: int, sampling: Sampling):
    alone = [answers(speaker, [prompt], sampling=sampling)[0] for prompt in prompts]
    assert answers(speaker, prompts, batch_size=batch_size, sampling=sampling) == alone
    backwards = answers(speaker, prompts[::-1], batch_size=batch_size, sampling=sampling)
    assert backwards[::-1] == alone  # nor on the order


def test_a_stop_id_ends_the_answer_and_is_not_in_it(speaker, prompts):
    ids = reference(speaker, prompts[0], 12)
    place = next(index for index in range(3, 12) if ids[index] not in ids[:index])
    [answer] = answers(speaker, prompts[:1], stop_ids=[ids[place]])
    assert answer == Answer(speaker.tokenizer.decode(ids[:place]).strip(), place, True)


def test_an_answer_that_runs_on_has_not_stopped(speaker, prompts):
    [answer] = answers(speaker, prompts[:1], stop_ids=[], max_new_tokens=5)
    assert (answer.tokens, answer.stopped) == (5, False)


def test_a_stop_string_is_found_across_tokens_and_cut_away(speaker, prompts):
    text = answers(speaker, prompts[:1], stop_ids=[])[0].text
    ids = reference(speaker, prompts[0], 12)
    first, second = (speaker.tokenizer.decode([ids[index]]) for index in (4, 5))
    stop = first[-1] + second[:1]  # half of it in one token, half in the next
    assert stop in text
    [answer] = answers(speaker, prompts[:1], stop_ids=[], stop_strings=["never said", stop])
    assert answer.text == text[: text.index(stop)].strip()
    assert answer.stopped
    assert answer.tokens <= 6 + 1  # it was ended, not only cut


def test_a_stop_string_in_the_prompt_ends_nothing(speaker, prompts):
    plain = answers(speaker, prompts, stop_ids=[])
    assert answers(speaker, prompts, stop_ids=[], stop_strings=["assistant\n"]) == plain


def test_neighbours_stop_on_their_own(speaker, prompts):
    ids = reference(speaker, prompts[0], 12)
    stop = next(token for index, token in enumerate(ids) if index >= 3 and token not in ids[:index])
    together = answers(speaker, prompts, stop_ids=[stop], batch_size=8)
    assert together == [answers(speaker, [prompt], stop_ids=[stop])[0] for prompt in prompts]
    assert {answer.stopped for answer in together} == {True, False}


def test_the_lead_of_the_template_is_no_part_of_the_answer(speaker, prompts):
    text = answers(speaker, prompts[:1], stop_ids=[])[0].text
    assert answers(speaker, prompts[:1], stop_ids=[], lead=text[:4] + " ")[0].text == text[4:].strip()
    assert answers(speaker, prompts[:1], stop_ids=[], lead="<think>")[0].text == text


def test_the_model_comes_back_as_it_was(speaker, prompts):
    model = copy.deepcopy(speaker.model)
    model.train()
    model.model.layers[0].eval()
    model.generation_config.temperature = 0.123
    kept, modes = model.generation_config, [module.training for module in model.modules()]
    answers(SimpleNamespace(**vars(speaker) | {"model": model}), prompts[:2])
    assert model.generation_config is kept
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(DataError):
        answers(SimpleNamespace(**vars(speaker) | {"model": model}), [""])
    assert [module.training for module in model.modules()] == modes


def test_the_model_s_own_generation_config_does_not_count(speaker, prompts, caplog):
    model = copy.deepcopy(speaker.model)
    model.generation_config.update(
        do_sample=True, temperature=5.0, top_p=0.3, repetition_penalty=3.0, min_new_tokens=9, max_length=7
    )
    other = SimpleNamespace(**vars(speaker) | {"model": model})
    with caplog.at_level(logging.WARNING):
        assert answers(other, prompts) == answers(speaker, prompts)
    assert not caplog.records


def test_the_cache_is_used_also_where_training_switched_it_off(speaker, prompts, monkeypatch):
    model = copy.deepcopy(speaker.model)
    model.config.use_cache = False
    widths = []
    forward = model.model.forward
    monkeypatch.setattr(
        model.model, "forward", lambda *a, **k: widths.append(k["input_ids"].shape[1]) or forward(*a, **k)
    )
    answers(SimpleNamespace(**vars(speaker) | {"model": model}), prompts[:1], max_new_tokens=4, stop_ids=[])
    assert widths[1:] == [1, 1, 1]


def test_dropout_is_off(speaker, prompts):
    model = copy.deepcopy(speaker.model)
    model.config.attention_dropout = 0.5
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    model.train()
    assert answers(SimpleNamespace(**vars(speaker) | {"model": model}), prompts) == answers(speaker, prompts)


def test_an_adapter_speaks_and_can_be_switched_off(speaker, prompts):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(copy.deepcopy(speaker.model), LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.5))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5, generator=torch.Generator().manual_seed(1))
    tuned = SimpleNamespace(**vars(speaker) | {"model": model})
    adapted = answers(tuned, prompts)
    assert adapted != answers(speaker, prompts)
    assert answers(tuned, prompts, batch_size=1) == adapted
    with model.disable_adapter():
        assert answers(tuned, prompts) == answers(speaker, prompts)


def test_out_of_memory_halves_the_batch_and_is_said_once(speaker, prompts, monkeypatch, way):
    expected = answers(speaker, prompts)
    sizes, said = [], []

    def tight(batch):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    on_reading(monkeypatch, way, tight)
    monkeypatch.setattr(console, "warn", said.append)
    assert answers(speaker, prompts, batch_size=8) == expected
    assert sizes[:3] == [8, 4, 2]
    assert max(sizes[3:]) <= 2
    assert sum(sizes[2:]) == 8
    assert len(said) == 1


def test_the_longest_prompts_go_first(speaker, prompts, monkeypatch, way):
    """What is too large fails at once, and neighbours of one length waste no padding."""
    lengths = []
    on_reading(monkeypatch, way, lambda batch: lengths.extend(map(len, batch)))
    answers(speaker, prompts, batch_size=2)
    assert len(set(lengths)) > 1
    assert lengths == sorted(lengths, reverse=True)


def test_out_of_memory_with_a_single_prompt_is_an_error(speaker, prompts, monkeypatch, way):
    def full(_):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    on_reading(monkeypatch, way, full)
    with pytest.raises(MachineError, match="single prompt"):
        answers(speaker, prompts, batch_size=4)


def test_another_error_is_not_taken_for_memory(speaker, prompts, monkeypatch, way):
    def broken(_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    on_reading(monkeypatch, way, broken)
    with pytest.raises(RuntimeError, match="shapes"):
        answers(speaker, prompts)


def test_a_prompt_that_fills_the_context_is_named(speaker, prompts):
    with pytest.raises(DataError, match=r"1 of 2 prompts .* b\.jsonl:7 \(600 tokens\)"):
        answers(speaker, [prompts[0], "?" * 600], names=["b.jsonl:6", "b.jsonl:7"])


def test_an_answer_near_the_end_of_the_context_gets_the_room_that_is_left(speaker, prompts, monkeypatch):
    said = []
    monkeypatch.setattr(console, "warn", said.append)
    short, long = answers(speaker, [prompts[0], "?" * 505], stop_ids=[])  # the context is 512
    assert (short.tokens, long.tokens) == (12, 7)
    assert "prompt 2 (7 tokens)" in said[0]


def test_sampling_is_seeded_and_zero_temperature_is_greedy(speaker, prompts, monkeypatch, way):
    hot = Sampling(temperature=2.0, top_p=0.95, top_k=40, seed=5)
    state = torch.random.get_rng_state()
    once, again = (answers(speaker, prompts, sampling=hot) for _ in range(2))
    other = answers(speaker, prompts, sampling=Sampling(temperature=2.0, seed=6))
    assert once == again != other
    if way == "refilled":  # a prompt alone is given the same draws by transformers
        alone = answers(speaker, prompts[:1], sampling=hot)
        monkeypatch.setattr(generate, "suits", lambda model: False)
        assert answers(speaker, prompts[:1], sampling=hot) == alone
    assert torch.equal(torch.random.get_rng_state(), state)
    assert answers(speaker, prompts, sampling=Sampling(temperature=0.0, top_p=0.5, top_k=3)) == answers(
        speaker, prompts
    )


def test_no_prompts_no_answers(speaker):
    assert answers(speaker, []) == []

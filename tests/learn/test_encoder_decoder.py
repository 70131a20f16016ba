"""Of an encoder-decoder the log-probabilities are T5's own, scaled or not, and splitting a batch changes nothing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import TrainerCallback

from sftlib.config.schema import LoraSection
from sftlib.errors import ModelError
from sftlib.learn import logprobs
from sftlib.learn.logprobs import hidden_states, output_head, supervised, token_logprobs, verify_head
from sftlib.model.adapters import attach_adapter, enable_gradient_checkpointing
from sftlib.tokens.collate import collate
from sftlib.tokens.dataset import ExampleDataset
from sftlib.tokens.examples import Example

VOCABULARY = 64


def t5(*, tie: bool, **changes: object) -> nn.Module:
    """A random T5: v1.0, whose head is the embeddings and whose outputs are scaled, or v1.1 with a head of its own."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
             "dropout_rate": 0.0, "decoder_start_token_id": 0}  # fmt: skip
    gate = "relu" if tie else "gated-gelu"
    model = T5ForConditionalGeneration(T5Config(**sizes | changes, feed_forward_proj=gate, tie_word_embeddings=tie))
    if not tie:
        model.lm_head.weight = nn.Parameter(torch.randn_like(model.lm_head.weight))
    return model


def with_lora(model: nn.Module, targets: list[str]) -> nn.Module:
    """With a rank-4 adapter, of the kind that an encoder-decoder gets."""
    return attach_adapter(model, LoraSection(r=4, alpha=8, target_modules=targets), seed=1)


def rows(count: int, seed: int = 0) -> ExampleDataset:
    """Inputs of 3 to 12 tokens, answers of 2 to 9."""
    draw = torch.Generator().manual_seed(seed)

    def ids(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (), generator=draw))
        return [*torch.randint(3, VOCABULARY, (length - 1,), generator=draw).tolist(), 1]

    examples = []
    for row in range(count):
        given, answer = ids(3, 13), ids(2, 10)
        labels = [-100] * (len(given) + 1) + answer
        examples.append(Example([*given, 0, *answer], labels, f"raw.jsonl:{row + 1}", decoder_at=len(given)))
    return ExampleDataset(examples)


class Watch(TrainerCallback):
    """Keeps the gradients of every step."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs) -> None:
        self.gradients.append({n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None})


def assert_close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-5, atol=1e-5 * float(b[name].abs().max()))


def ours(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    hidden_NH, targets_N, _ = supervised(hidden_states(model, batch), batch["labels"])
    return token_logprobs(output_head(model), hidden_NH, targets_N, 7)


@pytest.mark.parametrize("tie", [True, False], ids=["scaled", "own head"])
@pytest.mark.parametrize("adapted", [True, False], ids=["lora", "full"])
def test_equals_the_loss_that_t5_computes_itself(tie: bool, adapted: bool) -> None:
    model = t5(tie=tie)
    assert model.config.scale_decoder_outputs is tie
    if adapted:
        model = with_lora(model, ["q", "v", "wo"])
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.normal_()
    batch = collate(list(rows(5)), 0)
    labels = batch["labels"][:, 1:].contiguous()  # T5 shifts them itself
    own = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
    given = -ours(model, batch)
    torch.testing.assert_close(given.mean(), own, rtol=1e-5, atol=1e-5)

    def gradients(loss: torch.Tensor) -> dict[str, torch.Tensor]:
        model.zero_grad()
        loss.backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}

    wanted, got = gradients(own), gradients(given.mean())
    assert_close(got, wanted)


def test_the_head_sees_no_position(monkeypatch: pytest.MonkeyPatch) -> None:
    model = t5(tie=True)
    positions: list[int] = []
    linear = F.linear

    def record(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        if weight.shape[0] == VOCABULARY:
            positions.append(x.numel() // x.shape[-1])
        return linear(x, weight, bias)

    monkeypatch.setattr(F, "linear", record)
    hidden_states(model, collate(list(rows(5)), 0))
    assert positions == [0]
    assert not model.lm_head._forward_pre_hooks


@pytest.mark.parametrize("tie", [True, False], ids=["scaled", "own head"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_verify_head_accepts_t5(tie: bool, dtype: torch.dtype) -> None:
    model = t5(tie=tie).to(dtype).train()
    verify_head(model)
    verify_head(with_lora(model, ["q", "v"]))
    assert model.training


def test_mt5_has_a_head_of_its_own_that_scales_nothing() -> None:
    from transformers import MT5Config, MT5ForConditionalGeneration

    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    model = MT5ForConditionalGeneration(MT5Config(**sizes, dropout_rate=0.0, decoder_start_token_id=0))
    verify_head(model)
    batch = collate(list(rows(5)), 0)
    labels = batch["labels"][:, 1:].contiguous()
    own = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
    torch.testing.assert_close(-ours(model, batch).mean(), own, rtol=1e-5, atol=1e-5)


def test_verify_head_sees_that_the_scaling_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = t5(tie=True)
    real = logprobs._before_the_head
    monkeypatch.setattr(logprobs, "_before_the_head", lambda *given: real(*given) * 32**0.5)
    with pytest.raises(ModelError, match="T5ForConditionalGeneration"):
        verify_head(model)


SPLITS = [(8, 1), (1, 8), (2, 4), (4, 2)]


@pytest.mark.parametrize("adapted", [True, False], ids=["lora", "full"])
def test_a_step_does_not_depend_on_how_its_batch_is_split(make_trainer, adapted: bool) -> None:
    data = rows(21)  # two whole steps and a smaller one an epoch
    assert len({example.supervised for example in data.examples}) > 5  # uneven on purpose
    found = []
    for micro, accumulation in SPLITS:
        model, watch = t5(tie=False), Watch()
        trainer = make_trainer(
            with_lora(model, ["q", "v", "wi_0", "wo"]) if adapted else model, data, name=f"{micro}",
            train={"batch_size": micro, "grad_accum": accumulation, "max_grad_norm": 0.0, "learning_rate": 1e-4},
        )  # fmt: skip
        trainer.add_callback(watch)
        trainer.train()
        losses = [record["loss"] for record in trainer.state.log_history if "loss" in record]
        found.append((losses, watch.gradients[0]))
    (losses, first), *others = found
    assert len(losses) == 6
    for other_losses, other in others:
        assert other_losses == pytest.approx(losses, rel=1e-5)
        assert_close(other, first)


def test_the_loss_is_the_mean_over_the_answers_and_evaluation_agrees(make_trainer) -> None:
    model, data = t5(tie=True), rows(8)
    batch = collate(list(data), 0)
    with torch.no_grad():
        expected = F.cross_entropy(
            model(**{name: batch[name] for name in logprobs.PAIR_INPUTS}).logits[:, :-1].reshape(-1, VOCABULARY),
            batch["labels"][:, 1:].reshape(-1),
        )
    trainer = make_trainer(model, data, eval_set=data, train={"eval_strategy": "epoch", "learning_rate": 1e-9})
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_what_the_decoder_reads_is_counted_too(make_trainer) -> None:
    data = rows(8)
    trainer = make_trainer(t5(tie=True), data, train={"batch_size": 4, "max_steps": 2})
    trainer.train()
    assert trainer.tally.totals()["tokens"] == sum(data.lengths)


@pytest.mark.parametrize("adapted", [True, False], ids=["lora", "full"])
def test_checkpointing_changes_no_gradient(adapted: bool) -> None:
    batch = collate(list(rows(4)), 0)
    found = []
    for checkpointed in (False, True):
        model = t5(tie=False)
        model = with_lora(model, ["q", "v", "wo"]) if adapted else model
        if checkpointed:
            enable_gradient_checkpointing(model)
        (-ours(model.train(), batch)).sum().backward()
        found.append({name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad})
    plain, checkpointed = found
    for name, gradient in plain.items():
        assert gradient is not None, name
    assert_close(checkpointed, plain)

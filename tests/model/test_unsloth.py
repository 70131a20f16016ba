"""The unsloth backend: every reason not to take it, what is asked of Unsloth, and what is refused of what it gives.

There is no GPU here. A stand-in with Unsloth's signatures (tests/fake_unsloth) loads and trains for real on a CPU;
where the real package is installed, its source is held against the same signatures.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from model_parts import A100, BF16, CPU, FP32

from sftlib import console
from sftlib.config.schema import LoraSection, ModelSection, TuningSection
from sftlib.errors import MachineError, ModelError
from sftlib.memory.probe import Device
from sftlib.model.adapters import attach_adapter
from sftlib.model.backend import Backend, choose_backend, load_request, unsloth
from sftlib.model.backend.plain import load_base
from sftlib.model.backend.trial import verdict
from sftlib.model.backend.unsloth import LoadRequest, load_trainable, why_not

# Of unsloth 2026.10.9, as its source has them: models/loader.py, class FastLanguageModel, and models/llama.py, class
# FastLlamaModel, whose get_peft_model it hands its arguments to.
FROM_PRETRAINED = [
    "model_name", "max_seq_length", "dtype", "load_in_4bit", "load_in_8bit", "load_in_16bit", "full_finetuning",
    "token", "device_map", "device_map_planner_kwargs", "rope_scaling", "fix_tokenizer", "trust_remote_code",
    "use_gradient_checkpointing", "resize_model_vocab", "revision", "use_exact_model_name", "offload_embedding",
    "float32_mixed_precision", "fast_inference", "gpu_memory_utilization", "float8_kv_cache", "random_state",
    "max_lora_rank", "disable_log_stats", "qat_scheme", "load_in_fp8", "unsloth_tiled_mlp", "text_only", "args",
    "on_model_resolved", "kwargs",
]  # fmt: skip
GET_PEFT_MODEL = [
    "model", "r", "target_modules", "lora_alpha", "lora_dropout", "bias", "layers_to_transform", "layers_pattern",
    "finetune_last_n_layers", "use_gradient_checkpointing", "random_state", "max_seq_length", "use_rslora",
    "modules_to_save", "init_lora_weights", "loftq_config", "temporary_location", "qat_scheme", "target_parameters",
    "ensure_weight_tying", "offload_layers", "checkpoint_skip_layers", "kwargs",
]  # fmt: skip


def request_of(
    folder: Path, mode: str = "lora", *, checkpointing: bool = False, precision=FP32, **given
) -> LoadRequest:
    lora = {key: given.pop(key) for key in [*given] if key in LoraSection.model_fields}
    return load_request(
        folder, mode=mode, model=ModelSection(**({"max_seq_len": 512} | given)), lora=LoraSection(**({"r": 4} | lora)),
        checkpointing=checkpointing, seed=3, precision=precision,
    )  # fmt: skip


def fault(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the stand-in fail, in children and, as it is imported anew, here."""
    monkeypatch.setenv("FAKE_UNSLOTH", name)


# -- Whether it can -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", [CPU, Device("mps", "Apple's GPU", 2**34, 2**33)])
def test_it_needs_a_gpu(device, tiny_model):
    assert why_not(device, request_of(tiny_model)).startswith("unsloth needs an NVIDIA or AMD GPU and this machine")


def test_it_must_be_installed(monkeypatch, tiny_model):
    monkeypatch.setattr(unsloth.importlib.util, "find_spec", lambda name: None)
    assert why_not(A100, request_of(tiny_model)) == "unsloth is not installed (make install-unsloth)"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"attn_implementation": "eager"}, "brings its own attention, and model.attn_implementation is eager"),
        ({"max_seq_len": 513}, "stretch the model's 512 positions to model.max_seq_len, 513"),
    ],
)
def test_a_setting_that_it_would_not_heed(fake_unsloth, tiny_model, changed, reason):
    fake_unsloth.setattr(unsloth, "_trial", lambda request: "tried")
    assert reason in why_not(A100, request_of(tiny_model, **changed))
    assert why_not(A100, request_of(tiny_model)) == "tried"


def test_encoder_decoders_and_several_processes(fake_unsloth, stored):
    fake_unsloth.setattr(unsloth, "_trial", lambda request: "")
    fake_unsloth.setenv("WORLD_SIZE", "2")
    assert "several processes" in why_not(A100, request_of(stored.folder))
    fake_unsloth.setenv("WORLD_SIZE", "1")
    assert why_not(A100, request_of(stored.folder)) == ""
    config = json.loads((stored.folder / "config.json").read_text())
    (stored.folder / "config.json").write_text(json.dumps(config | {"is_encoder_decoder": True}))
    assert "encoder-decoder" in why_not(A100, request_of(stored.folder))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "no accelerator",
            "it cannot be imported: NotImplementedError: Unsloth cannot find any torch accelerator? You",
        ),
        ("crash", "its trial broke off with code 139: Segmentation fault in a kernel"),
    ],
)
def test_the_trial_says_why_it_fails_and_this_process_has_never_seen_it(fake_unsloth, tiny_model, name, reason):
    fault(fake_unsloth, name)
    assert why_not(A100, request_of(tiny_model)).startswith(reason)
    assert "unsloth" not in sys.modules


def test_it_is_tried_once_for_one_request(fake_unsloth, tiny_model):
    """That a trial which passes is believed, and the model then trained: tests/test_unsloth_chain.py."""
    runs = []

    def played(command, **options):
        runs.append(json.loads(options["input"]))
        return subprocess.CompletedProcess(command, 0, 'Unsloth: hello\nverdict: ""\nbye\n', "")

    fake_unsloth.setattr(unsloth.subprocess, "run", played)
    request = request_of(tiny_model, "qlora")
    assert [why_not(A100, request), why_not(A100, request)] == ["", ""]
    assert why_not(A100, replace(request, mode="lora")) == ""
    assert [run["mode"] for run in runs] == ["qlora", "lora"]
    assert LoadRequest(**runs[0]) == request


def test_a_trial_that_hangs(fake_unsloth, tiny_model):
    fake_unsloth.setattr(unsloth, "TRIAL_SECONDS", 0.05)
    assert why_not(A100, request_of(tiny_model)) == "its trial had not come to an end after 0.05 s"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", ""),
        ("no torchvision", "it cannot be imported: ImportError: Unsloth: torchvision is not installed."),
        ("refuses", "Unsloth cannot load this model: Unsloth: llama4 is not supported yet!"),
        ("compiler", "its first step fails: RuntimeError: Failed to find C compiler. "
         "Please specify via CC environment variable."),
        ("step", "Unsloth gives gradients that are not finite."),
    ],
)  # fmt: skip
def test_the_verdict(fake_unsloth, tiny_model, name, reason):
    """What the child does, in this process."""
    fault(fake_unsloth, name)
    assert verdict(request_of(tiny_model)) == reason


# -- What takes its place -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "name"), [("qlora", "bnb"), ("lora", "plain"), ("full", "plain")])
def test_what_takes_its_place_says_its_own_name(fake_unsloth, tiny_model, mode, name, capsys):
    fake_unsloth.setattr(unsloth, "_trial", lambda request: "it cannot be imported: ImportError: x")
    tuning = TuningSection(mode=mode, backend="unsloth")
    chosen = choose_backend(tuning, replace(CPU, kind="cuda"), request_of(tiny_model, mode))
    assert (chosen.name, chosen.asked, chosen.reason) == (name, "unsloth", "it cannot be imported: ImportError: x")
    assert f"training with {name} instead" in " ".join(capsys.readouterr().err.split())
    assert any("ImportError: x" in warning for warning in console.warnings())
    with pytest.raises(MachineError, match="ImportError: x"):
        choose_backend(tuning.model_copy(update={"backend_fallback": False}), A100, request_of(tiny_model, mode))


def test_where_it_runs_nothing_takes_its_place(fake_unsloth, tiny_model):
    fake_unsloth.setattr(unsloth, "_trial", lambda request: "")
    chosen = choose_backend(TuningSection(mode="lora", backend="unsloth"), A100, request_of(tiny_model))
    assert chosen == Backend("unsloth", "unsloth", "lora", "")
    with pytest.raises(ValueError, match="only trains"):
        chosen.load_base(tiny_model, precision=FP32, device=CPU)


def test_answers_never_need_it(capsys):
    for mode, name in (("qlora", "bnb"), ("lora", "plain")):
        tuning = TuningSection(mode=mode, backend="unsloth", backend_fallback=False)
        chosen = choose_backend(tuning, CPU, training=False)
        assert (chosen.name, chosen.reason) == (name, "unsloth only trains")
    assert capsys.readouterr().err == ""


# -- What is asked of it, and what is refused of what it gives ---------------------------------------------------------


def given_to(call: str) -> dict:
    """The arguments of the last call of the stand-in, those that it has no name for under `kwargs`."""
    return [arguments for name, arguments in sys.modules["unsloth"].CALLS if name == call][-1]


def test_it_loads_that_folder_in_16_bits_and_nothing_is_guessed(fake_unsloth, tiny_model, capsys):
    model = load_trainable(request_of(tiny_model, precision=BF16, alpha=8, dropout=0.1, target_modules="attn"))
    given = given_to("from_pretrained")
    expected = {
        "model_name": str(tiny_model.resolve()), "max_seq_length": 512, "dtype": torch.bfloat16, "load_in_4bit": False,
        "load_in_16bit": True, "full_finetuning": False, "use_exact_model_name": True, "fix_tokenizer": False,
        "use_gradient_checkpointing": False, "device_map": {"": "cuda:0"}, "offload_embedding": False,
        "random_state": 3, "float32_mixed_precision": None, "trust_remote_code": False,
    }  # fmt: skip
    assert {key: given[key] for key in expected} == expected
    assert given["kwargs"].keys() <= {"local_files_only", "use_safetensors", "quantization_config"}
    assert given["kwargs"]["local_files_only"] is True
    given = given_to("get_peft_model")
    expected = {
        "r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "bias": "none", "random_state": 3, "use_rslora": False,
        "target_modules": ["k_proj", "o_proj", "q_proj", "v_proj"], "use_gradient_checkpointing": False, "kwargs": {},
    }  # fmt: skip
    assert {key: given[key] for key in expected} == expected
    assert {weight.dtype for weight in model.parameters() if not weight.requires_grad} == {torch.bfloat16}
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}
    out, err = capsys.readouterr()
    assert out == ""
    assert "Unsloth 2026.10.9" in err


@pytest.mark.parametrize(("length", "asked"), [(511, True), (512, "unsloth")])
def test_its_checkpointing_offloads_only_rows_that_are_long_enough(fake_unsloth, tiny_model, length, asked):
    load_trainable(request_of(tiny_model, checkpointing=True, max_seq_len=length))
    assert given_to("from_pretrained")["use_gradient_checkpointing"] == asked
    assert given_to("get_peft_model")["use_gradient_checkpointing"] == asked


def test_xformers_cannot_be_imported_and_the_switches_are_set(fake_unsloth, tiny_model, tmp_path, capsys):
    (tmp_path / "xformers").mkdir()
    (tmp_path / "xformers" / "__init__.py").touch()
    fake_unsloth.syspath_prepend(str(tmp_path))
    assert importlib.util.find_spec("xformers") is not None
    module = unsloth.import_first()
    assert module.HAS_XFORMERS is False
    with pytest.raises(ModuleNotFoundError):
        import xformers  # noqa: F401
    assert {name: os.environ[name] for name in unsloth.SWITCHES} == unsloth.SWITCHES
    assert "imported after transformers" in " ".join(capsys.readouterr().err.split())  # as it is in these tests


def test_its_adapter_begins_as_ours(fake_unsloth, tiny_model):
    """Rank, layers, names and the random A: the same seed gives the same adapter."""
    theirs = load_trainable(request_of(tiny_model))
    base = load_base(
        tiny_model, mode="lora", precision=FP32, attn_implementation="auto", trust_remote_code=False, device=CPU,
        training=True,
    )  # fmt: skip
    ours = dict(attach_adapter(base, LoraSection(r=4), seed=3).named_parameters())
    assert ours.keys() == dict(theirs.named_parameters()).keys()
    for name, weight in theirs.named_parameters():
        assert torch.equal(weight, ours[name]), name


def test_what_it_noted_in_the_configs_is_gone(fake_unsloth, tiny_model):
    base = load_trainable(request_of(tiny_model)).get_base_model()
    assert not {"model_name", "unsloth_version"} & base.config.to_dict().keys()
    assert base.generation_config.max_length != 512
    assert base.config.use_cache is False


def test_4_bits(fake_unsloth, tiny_model):
    from bitsandbytes.nn import Linear4bit

    model = load_trainable(request_of(tiny_model, "qlora", precision=BF16))
    assert sum(isinstance(module, Linear4bit) for module in model.modules()) == 2 * 7
    assert given_to("from_pretrained")["load_in_16bit"] is False


def test_a_whole_model_is_held_in_float32_and_all_of_it_is_trained(fake_unsloth, tiny_model):
    model = load_trainable(request_of(tiny_model, "full", precision=BF16))
    assert not hasattr(model, "peft_config")
    assert all(weight.requires_grad and weight.dtype == torch.float32 for weight in model.parameters())
    assert given_to("from_pretrained")["full_finetuning"] is True


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        ("renames", "lora", "loads unsloth/Llama-3.2-1B-Instruct-unsloth-bnb-4bit in the place of the model"),
        ("grows", "lora", "changed the vocabulary from 512 to 520"),
        ("16 bits", "qlora", "holds the base as 16 bits in mode qlora"),
        ("fp4", "qlora", "holds the base as fp4 in mode qlora"),
        ("float16", "lora", "holds what is not in 4 bits in torch.float16, not torch.float32"),
        ("coarse", "lora", "does not hold in float32 14 weights"),
        ("trains a norm", "lora", "trains 5 weights"),
        ("freezes", "full", "does not train 1 weights, such as model.embed_tokens.weight"),
        ("refuses", "lora", "cannot load this model: Unsloth: llama4 is not supported yet!"),
    ],
)
def test_what_is_not_as_asked_is_refused(fake_unsloth, tiny_model, name, mode, words):
    fault(fake_unsloth, name)
    with pytest.raises(ModelError) as caught:
        load_trainable(request_of(tiny_model, mode))
    assert words in caught.value.seen


def test_no_room(fake_unsloth, tiny_model):
    fault(fake_unsloth, "no room")
    with pytest.raises(MachineError, match="no room"):
        load_trainable(request_of(tiny_model))


# -- The signatures -------------------------------------------------------------------------------------------------


def test_the_stand_in_has_its_signatures(fake_unsloth):
    module = unsloth.import_first()
    assert list(inspect.signature(module.FastLanguageModel.from_pretrained).parameters) == FROM_PRETRAINED
    assert list(inspect.signature(module.FastLanguageModel.get_peft_model).parameters) == GET_PEFT_MODEL


def test_the_real_one_has_them_too():
    """Read, not imported: that needs a GPU. A folder with its source may be named by UNSLOTH_SOURCE."""
    named = os.environ.get("UNSLOTH_SOURCE")
    spec = None if named else importlib.util.find_spec("unsloth")
    if not named and spec is None:
        pytest.skip("unsloth is not installed; the recorded signatures are of 2026.10.9")
    folder = Path(named) if named else Path(spec.origin).parent
    assert parameters(folder / "models" / "loader.py", "FastLanguageModel", "from_pretrained") == FROM_PRETRAINED
    assert parameters(folder / "models" / "llama.py", "FastLlamaModel", "get_peft_model") == GET_PEFT_MODEL


def parameters(file: Path, class_name: str, function: str) -> list[str]:
    """The names of a method's parameters, from the source."""
    found = [
        method.args
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name == class_name
        for method in node.body
        if isinstance(method, ast.FunctionDef) and method.name == function
    ]
    named = [found[0].vararg.arg] if found[0].vararg else []
    return (
        [part.arg for part in found[0].args] + named + [part.arg for part in found[0].kwonlyargs] + [found[0].kwarg.arg]
    )

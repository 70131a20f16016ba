"""A model cut up over several processes by FSDP2: what has to hold before it is, and in which numbers it computes.

In come a trainer that has not begun and the launch; the trainer's plugin is settled in place. Cutting up, gathering and
checkpoints are Accelerate's and the Trainer's business, which read the rest from configs/accelerate/fsdp2.yaml.

The numbers are those of one process. Autocast computes, as it does there, so an adapter stays float32 beside a 16-bit
base: torch 2.13 wants one dtype of the *trainable* weights that are cut up together, and these are all float32. A full
fine-tune sends its float32 weights as 16-bit ones, which autocast would make of them anyway. Gradients are summed in
float32; Accelerate would sum them in the 16-bit type.

Worst bug: a model that is said to be cut up and is whole in every process (tests/test_several_processes.py).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import Trainer

from ..errors import ConfigError, MachineError
from ..run.launch import Launch

OPTIMIZERS = ("adamw_torch", "adamw_torch_fused")  # whose states have the shape of their weights
COMPUTES = {"bf16": torch.bfloat16}


def settle(trainer: Trainer, launch: Launch) -> None:
    """Settle the plugin of an FSDP2 training; anything else passes."""
    if launch.kind != "fsdp2":
        return
    if not trainer.accelerator.is_fsdp2:
        raise MachineError(
            f"Accelerate cuts a model up on GPUs only, and this trains on {trainer.args.device.type}.",
            where="ACCELERATE=fsdp2", expected="GPUs", cure="ACCELERATE=ddp, which runs on CPUs too.",
        )  # fmt: skip
    if trainer.args.fp16:
        raise ConfigError(
            "FSDP2 is not driven with the loss scaling of fp16 here.", where="train.fp16, ACCELERATE=fsdp2",
            expected="bf16, or float32", cure="Set train.fp16 to false, or take ACCELERATE=ddp.",
        )  # fmt: skip
    if trainer.args.optim not in OPTIMIZERS:
        raise ConfigError(
            f"{trainer.args.optim.value} keeps states of its own kind, which FSDP2 cannot cut up.",
            where="train.optim, ACCELERATE=fsdp2", expected=" or ".join(OPTIMIZERS),
            cure="Set train.optim to adamw_torch.",
        )  # fmt: skip
    is_adapter = hasattr(trainer.model, "peft_config")
    dtype = None if is_adapter else COMPUTES.get(trainer.accelerator.mixed_precision)
    plugin: Any = trainer.accelerator.state.fsdp_plugin
    plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)


def whole_weights(trainer: Trainer, launch: Launch) -> dict[str, Tensor] | None:
    """The trained weights put together in process 0; None when the model holds them itself. All processes call it."""
    if launch.kind == "zero3":
        return trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return gather(trainer.model) if launch.kind == "fsdp2" else None


def gather(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a model that FSDP2 has cut up, of an adapted one the adapter's: on the CPU of process 0, whole.

    The other processes get an empty dict.
    """
    options = StateDictOptions(
        full_state_dict=True, cpu_offload=True, ignore_frozen_params=hasattr(model, "peft_config")
    )
    weights = get_model_state_dict(model, options=options)
    first_names: dict[int, str] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):  # tied weights stay one tensor
        first = first_names.setdefault(id(weight), name)
        if {name, first} <= weights.keys():
            weights[name] = weights[first]
    return weights

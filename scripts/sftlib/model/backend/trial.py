"""Unsloth tried out in a process of its own, so that the process which asks stays as it was.

    echo '{"folder": "/models/x", "mode": "qlora", ...}' | python -m sftlib.model.backend.trial
    -> verdict: ""                             it imports, loads, puts its adapter on and gives gradients
    -> verdict: "Unsloth cannot load ..."      the reason why not

Reads a `LoadRequest` as JSON on standard input. What libraries print may stand around the verdict.
Worst bug: a trial that passes where the training then fails (tests/model/test_unsloth.py).
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch

from ... import console
from ...errors import ModelError, SftError, first_line
from .unsloth import DTYPES, LINE, LoadRequest, import_first, load_trainable

TOKENS = 16


def main() -> int:
    """Answer the request on standard input."""
    console.result(LINE + json.dumps(verdict(LoadRequest(**json.load(sys.stdin)))))
    return 0


def verdict(request: LoadRequest) -> str:
    """Why Unsloth cannot train this, empty when it can."""
    try:
        import_first()
    except Exception as error:  # it raises whatever it finds missing: an accelerator, a compiler, a version
        return f"it cannot be imported: {type(error).__name__}: {first_line(error)}"
    try:
        _step(load_trainable(request), request)
    except SftError as error:
        return error.seen
    except Exception as error:  # its kernels are compiled at the first step, and may fail to be
        return f"its first step fails: {type(error).__name__}: {first_line(error)}"
    return ""


def _step(model: Any, request: LoadRequest) -> None:
    """One forward and backward pass over a few tokens, as the trainer runs them."""
    model.train()
    device = next(model.parameters()).device
    ids_BT = torch.arange(TOKENS, device=device)[None] % model.get_input_embeddings().weight.shape[0]
    with torch.autocast(device.type, DTYPES[request.precision], enabled=request.precision != "fp32"):
        output = model(input_ids=ids_BT, attention_mask=torch.ones_like(ids_BT), logits_to_keep=8, use_cache=False)
    output.logits.float().logsumexp(dim=-1).mean().backward()
    gradients = [weight.grad for weight in model.parameters() if weight.requires_grad and weight.grad is not None]
    if not all(torch.isfinite(gradient).all() for gradient in gradients):
        raise ModelError("Unsloth gives gradients that are not finite.", where=request.folder)
    if not any(gradient.any() for gradient in gradients):
        raise ModelError("Unsloth gives no gradient.", where=request.folder)


if __name__ == "__main__":
    raise SystemExit(main())

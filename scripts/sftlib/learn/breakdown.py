"""From a profiler's events to where the time of a step goes: by phase, by kind of operation, by operation.

In come the events of `torch.profiler` over whole steps, in which the phases are ranges (profiling.py); out go seconds a
step. Where a GPU worked, time is that of its kernels, each in the phase that launched it, and what is left of the step
is waiting: for the host, or for data. Elsewhere it is the time of the thread that trains.

    found = break_down(events, with_device=False)
    found.phases    {"data": 0.01, "forward": 0.61, "loss and head": 0.22, "backward": 1.02, "optimizer": 0.04, ...}
    found.kinds     {"matrix products": 1.31, "attention": 0.12, ...}

Both add up to the step. The kind of an operation is that of the first rule which its name meets; a kernel has that of
the operation which launched it, or its own. What meets none is `other`, with its names.

Worst bug: time that is counted twice, or lost (tests/learn/test_breakdown.py).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .profiling import PHASES, PREFIX

STEP = "ProfilerStep"  # the range that the profiler makes of each step, by one name for all
REST, WAITING = "rest", "the device waits"
ATTENTION, OPTIMIZER, PYTHON, OTHER = "attention", "optimizer", "Python and autograd", "other"
RULES = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        (ATTENTION, r"scaled_dot_product|ScaledDotProduct|_Products|flash|fmha|efficient_attention|flex_attention|"
         r"varlen"),
        (PYTHON, rf"^({PREFIX}|{STEP}|autograd::|torch::autograd|Optimizer\.|enumerate\(|\[pytorch\|)|^_?[A-Z]\w*$"),
        ("4-bit weights", r"quantize_?4bit|(?i:quantize_?blockwise)|gemv_4bit|gemm_4bit"),
        ("matrix products", r"^aten::(mm|addmm|bmm|baddbmm|linear|matmul|mkldnn_\w*linear\w*|addmm_|_addmm\w*)$|"
         r"gemm|nvjet|cutlass|xmma|cublas"),
        ("softmax and loss", r"softmax|nll_loss|cross_entropy|logsumexp"),
        ("copies and casts", r"^aten::(copy_|_to_copy|to|clone|contiguous|cat|stack|_pin_memory|repeat)$|Memcpy|Memset"
         r"|direct_copy|CatArray"),
        ("look-ups", r"index|gather|scatter|embedding|nonzero|masked_select|aten::take"),
        ("sums and means", r"^aten::(sum|mean|norm|linalg_vector_norm|amax|amin|max|min|any|all|cumsum|std|var)$|"
         r"aten::_?(fused_)?(rms|layer)_norm\w*|reduce_kernel"),
        ("views and new tensors", r"^aten::(view|_unsafe_view|reshape|_reshape_alias|transpose|t|permute|expand\w*|"
         r"slice|select|as_strided|unsqueeze|squeeze|split\w*|chunk|narrow|detach\w*|alias|unbind|empty\w*|new_\w+|"
         r"zeros\w*|ones\w*|full\w*|arange|resize_|result_type|item|_local_scalar_dense|is_nonzero|lift_fresh|"
         r"view_as|resolve_conj|resolve_neg|as_strided_|slice_backward|select_backward)$|^detach\w*$"),
        ("element-wise", r"^aten::_?(add|sub|rsub|mul|div|neg|pow|sqrt|rsqrt|exp|log|sigmoid|silu|gelu|relu|tanh|cos|"
         r"sin|where|fill|zero|abs|clamp\w*|triu|tril|eq|ne|lt|gt|le|ge|logical_\w+|bitwise_\w+|isfinite|isnan|isinf|"
         r"reciprocal|square|addcmul|addcdiv|lerp|dropout|bernoulli|native_dropout|masked_fill|_?foreach_\w+)_?$|"
         r"aten::(silu|gelu|tanh|sigmoid|threshold)_backward|elementwise|vectorized|triton|multi_tensor"),
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation, or kernel, over all steps: seconds and calls a step."""

    name: str
    kind: str
    seconds: float
    calls: float


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Seconds a step: by phase and by kind, each adding up to `seconds`; operations, the longest first."""

    steps: int
    seconds: float
    phases: dict[str, float]
    kinds: dict[str, float]
    operations: list[Operation]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Time of one operation, in microseconds."""

    name: str
    kind: str
    phase: str
    spent: float


def break_down(events: Iterable[Any], *, with_device: bool) -> Breakdown:
    """Sum up the steps. with_device: the time is that of a GPU's kernels."""
    events = [event for event in events if event.device_type.name == "CPU"]
    ranges = _Ranges(event for event in events if event.name.startswith((PREFIX, STEP)))
    if not ranges.steps:
        raise ValueError("no whole step among the profiler's events")
    whole = sum(event.time_range.elapsed_us() for event in ranges.steps)
    pieces = list(_kernels(events, ranges) if with_device else _operations(events, ranges))
    if with_device:
        waited = max(0.0, whole - sum(piece.spent for piece in pieces))
        pieces.append(_Piece(WAITING, WAITING, WAITING, waited))
        phases, kinds = [*PHASES, REST, WAITING], [*_kinds(), WAITING]
    else:
        phases, kinds = [*PHASES, REST], _kinds()
    by_phase, by_kind = dict.fromkeys(phases, 0.0), dict.fromkeys(kinds, 0.0)
    named: dict[tuple[str, str], list[float]] = defaultdict(list)
    scale = 1e-6 / len(ranges.steps)
    for piece in pieces:
        by_phase[piece.phase] += piece.spent * scale
        by_kind[piece.kind] += piece.spent * scale
        named[piece.name, piece.kind].append(piece.spent * scale)
    operations = [
        Operation(name, kind, sum(spent), len(spent) / len(ranges.steps)) for (name, kind), spent in named.items()
    ]
    operations.sort(key=lambda operation: -operation.seconds)
    kinds_seen = {kind: spent for kind, spent in by_kind.items() if spent}
    return Breakdown(len(ranges.steps), sum(by_phase.values()), by_phase, kinds_seen, operations)


def kind_of(*names: str) -> str:
    """The kind of an operation: of its name, or of the next name where that says nothing."""
    for name in names:
        for kind, pattern in RULES:
            if pattern.search(name):
                return kind
    return OTHER


def _kinds() -> list[str]:
    return [*(kind for kind, _ in RULES), OPTIMIZER, OTHER]


def _operations(events: Sequence[Any], ranges: _Ranges) -> Iterable[_Piece]:
    """What the thread that trains did, operation by operation, each without those inside it."""
    in_attention: dict[int, bool] = {}
    thread = ranges.steps[0].thread
    for event in events:
        phase = ranges.phase_of(event) if event.thread == thread else None
        if phase is not None:
            yield _Piece(event.name, _kind(event, phase, in_attention), phase, event.self_cpu_time_total)


def _kernels(events: Sequence[Any], ranges: _Ranges) -> Iterable[_Piece]:
    """What the device did, kernel by kernel; a range has a copy of its own among its kernels."""
    in_attention: dict[int, bool] = {}
    for event in events:
        if not event.kernels or event.is_user_annotation:
            continue
        phase = ranges.phase_of(event)
        if phase is not None:
            for kernel in event.kernels:
                kind = _kind(event, phase, in_attention, kernel.name)
                yield _Piece(kernel.name, kind, phase, kernel.duration)


def _kind(event: Any, phase: str, in_attention: dict[int, bool], kernel: str = "") -> str:
    if phase == OPTIMIZER:
        return OPTIMIZER
    if _is_attention(event, in_attention):
        return ATTENTION
    kind = kind_of(event.name)
    return kind_of(kernel) if kernel and kind in (OTHER, PYTHON) else kind


def _is_attention(event: Any, known: dict[int, bool]) -> bool:
    """Whether it is one, or works for one."""
    if event is None:
        return False
    if id(event) not in known:
        known[id(event)] = kind_of(event.name) == ATTENTION or _is_attention(event.cpu_parent, known)
    return known[id(event)]


class _Ranges:
    """Steps and phases; a phase may lie within another, as the forward pass does in the loss."""

    def __init__(self, events: Iterable[Any]) -> None:
        ordered = sorted(events, key=lambda event: (event.time_range.start, -event.time_range.end))
        self.steps = [event for event in ordered if event.name.startswith(STEP)]
        self._starts = [event.time_range.start for event in ordered]
        self._ranges = [
            (event.time_range.end, REST if event.name.startswith(STEP) else event.name.removeprefix(PREFIX))
            for event in ordered
        ]
        self._own = {id(event): phase for event, (_, phase) in zip(ordered, self._ranges, strict=True)}

    def phase_of(self, event: Any) -> str | None:
        """The innermost phase at its beginning, of a range itself; None outside of the steps."""
        if id(event) in self._own:
            return self._own[id(event)]
        moment = event.time_range.start
        index = bisect_right(self._starts, moment)
        while index > 0:
            index -= 1
            end, phase = self._ranges[index]
            if moment < end:
                return phase
            if phase == REST:
                return None
        return None

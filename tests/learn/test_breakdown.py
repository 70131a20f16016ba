"""Where the time goes, from events that are written out: nothing twice, nothing lost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sftlib.learn.breakdown import break_down, kind_of


class Events:
    """Events as the profiler gives them: times in microseconds, the children of each by nesting."""

    def __init__(self) -> None:
        self.all: list[Any] = []

    def add(
        self, name: str, start: float, end: float, parent: Any = None, *, kernels: tuple[tuple[str, float], ...] = (),
        thread: int = 1, is_range: bool = False, device: str = "CPU",
    ) -> Any:  # fmt: skip
        event = SimpleNamespace(
            name=name, cpu_parent=parent, thread=thread, is_user_annotation=is_range,
            time_range=SimpleNamespace(start=start, end=end, elapsed_us=lambda: end - start),
            self_cpu_time_total=end - start, device_type=SimpleNamespace(name=device),
            kernels=[SimpleNamespace(name=kernel, duration=spent) for kernel, spent in kernels],
        )  # fmt: skip
        if parent is not None:
            parent.self_cpu_time_total -= end - start
        self.all.append(event)
        return event


def one_step(events: Events, start: float) -> None:
    """1000 us: 50 data, 200 forward within 300 of the loss, 400 backward, 150 optimizer, 100 of nothing named."""
    step = events.add("ProfilerStep*", start, start + 1000, is_range=True)
    events.add("sft:data", start, start + 50, step, is_range=True)
    loss = events.add("sft:loss and head", start + 100, start + 400, step, is_range=True)
    forward = events.add("sft:forward", start + 100, start + 300, loss, is_range=True)
    events.add("aten::mm", start + 110, start + 210, forward, kernels=(("ampere_sgemm", 80),))
    products = events.add("_Products", start + 220, start + 280, forward)
    events.add("aten::bmm", start + 230, start + 270, products, kernels=(("ampere_sgemm", 30),))
    events.add("aten::_log_softmax", start + 310, start + 390, loss, kernels=(("softmax_kernel", 10),))
    backward = events.add("sft:backward", start + 400, start + 800, step, is_range=True)
    events.add("mine::strange", start + 450, start + 750, backward, kernels=(("void gemm_of_mine", 300),))
    update = events.add("sft:optimizer", start + 850, start + 1000, step, is_range=True)
    events.add("aten::mul", start + 850, start + 950, update, kernels=(("elementwise_kernel", 40),))


@pytest.fixture
def events() -> Events:
    made = Events()
    one_step(made, 10_000)
    one_step(made, 11_000)
    made.add("aten::mm", 9_000, 9_900)  # before the first step, between others and after the last
    made.add("aten::mm", 12_000, 12_500)
    made.add("aten::mm", 10_100, 10_900, thread=2)  # of another thread, at the same time
    made.add("sft:forward", 10_100, 10_300, is_range=True, device="CUDA")  # a range as the device has seen it
    return made


def test_phases_and_kinds_add_up_to_the_step(events: Events) -> None:
    found = break_down(events.all, with_device=False)
    us = {name: round(seconds * 1e6, 6) for name, seconds in found.phases.items()}
    assert us == {"data": 50, "forward": 200, "loss and head": 100, "backward": 400, "optimizer": 150, "rest": 100}
    assert found.seconds == pytest.approx(1000e-6)
    assert found.steps == 2
    kinds = {name: round(seconds * 1e6, 6) for name, seconds in found.kinds.items()}
    assert kinds == {
        "attention": 60,  # its products are not matrix products
        "matrix products": 100,
        "softmax and loss": 80,
        "optimizer": 150,  # all that is done there
        "other": 300,
        "Python and autograd": 50 + 40 + 20 + 100 + 100,
    }
    strange, *_ = found.operations
    assert (strange.name, strange.kind, strange.calls) == ("mine::strange", "other", 1)


def test_of_a_gpu_kernels_count_and_the_rest_is_waiting(events: Events) -> None:
    # The other thread is where autograd runs then: what it launches belongs to the phase of that moment.
    events.add("aten::silu", 10_500, 10_510, thread=2, kernels=(("vectorized", 60),))
    for event in events.all:
        if event.is_user_annotation and event.name == "sft:forward":
            event.kernels = [SimpleNamespace(name="sft:forward", duration=110)]
    found = break_down(events.all, with_device=True)
    us = {name: round(seconds * 1e6, 6) for name, seconds in found.phases.items()}
    assert us == {
        "data": 0, "forward": 110, "loss and head": 10, "backward": 330, "optimizer": 40, "rest": 0,
        "the device waits": 510,
    }  # fmt: skip
    kinds = {name: round(seconds * 1e6, 6) for name, seconds in found.kinds.items()}
    assert kinds == {
        "attention": 30, "matrix products": 80 + 300, "softmax and loss": 10, "optimizer": 40, "element-wise": 30,
        "the device waits": 510,
    }  # fmt: skip


def test_without_a_step_nothing_is_made_up() -> None:
    with pytest.raises(ValueError, match="no whole step"):
        break_down([], with_device=False)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::addmm", "matrix products"), ("aten::mkldnn_linear", "matrix products"),
        ("void cutlass::Kernel2<cutlass_80_wmma>", "matrix products"), ("nvjet_hsh_128x256", "matrix products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
        ("autograd::engine::evaluate_function: ScaledDotProductFlashAttentionForCpuBackward0", "attention"),
        ("torch_attn::_varlen_attn", "attention"),
        ("_ProductsBackward", "attention"), ("void flash_fwd_kernel<Traits>", "attention"),
        ("bitsandbytes::dequantize_4bit", "4-bit weights"), ("void kDequantizeBlockwise<bf16>", "4-bit weights"),
        ("aten::copy_", "copies and casts"), ("Memcpy HtoD (Pinned -> Device)", "copies and casts"),
        ("void at::native::elementwise_kernel<direct_copy_kernel_cuda>", "copies and casts"),
        ("aten::mul_", "element-wise"), ("aten::silu_backward", "element-wise"), ("aten::sum", "sums and means"),
        ("aten::_fused_rms_norm", "sums and means"), ("aten::index_put_", "look-ups"),
        ("aten::_softmax_backward_data", "softmax and loss"), ("aten::transpose", "views and new tensors"),
        ("autograd::engine::evaluate_function: MmBackward0", "Python and autograd"),
        ("_AddUpdateBackward", "Python and autograd"), ("aten::never_seen", "other"),
    ],
)  # fmt: skip
def test_the_kind_of_an_operation_is_in_its_name(name: str, kind: str) -> None:
    assert kind_of(name) == kind

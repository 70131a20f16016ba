"""Layer streaming: the frozen weights of the blocks wait in main memory, and each is on the device when it computes.

In comes a model with a frozen base and the device that computes; out goes a `LayerStream` that is at work until it is
removed. The weights of a block, 4-bit ones with their scales, lie one after another in pinned main memory; the device
has two buffers, and the weights of block i are *views* into buffer i mod 2, for good. What changes is what the
buffer holds: before block i runs, it is filled in one copy, and while it runs the other buffer gets the block after it,
on a stream of its own. In the backward pass the order is the reverse one: the gradient of what a block gave is the
signal that it is wanted again, with gradient checkpointing (the block is computed anew) and without (autograd kept the
view, which is filled again). So every product is made of the very bytes of the resident model.

    stream = stream_layers(model, device)      # adapters, embeddings, head and what is trained are on the device
    stream.device_bytes                        # two blocks, not the model
    stream.remove()                            # every weight where it was

Nothing but the block itself may read a weight of a block meanwhile, unless `weights_at_home`: outside of its turn a
buffer holds another one's. An adapter is saved as ever; a merge loads the base anew.

Worst bug: a block that computes with the weights of another one (tests/model/test_streaming.py).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..memory.shape import STREAM_BUFFERS, in_stream
from .copying import Copier

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ..memory.probe import Device

AREA_BYTES = 2**30  # of pinned memory, taken at once: PyTorch rounds each piece up to a power of two
ATTRIBUTE = "layer_stream"  # of the model inside of PEFT's wrapper


@dataclass(frozen=True, slots=True)
class _Piece:
    """One tensor of a block: `getattr(owner, name)`, and where its bytes lie in the block's."""

    owner: Any
    name: str
    start: int
    dtype: torch.dtype
    shape: torch.Size
    came_from: torch.device

    def in_(self, bytes_N: Tensor) -> Tensor:
        """A view of this tensor in the bytes of the block."""
        return bytes_N[self.start : self.start + self.bytes].view(self.dtype).view(self.shape)

    @property
    def bytes(self) -> int:
        return self.shape.numel() * self.dtype.itemsize

    def put(self, tensor: Tensor) -> None:
        setattr(self.owner, self.name, tensor)


@dataclass(frozen=True, slots=True)
class _Layer:
    """A block's tensors and their bytes in main memory."""

    pieces: tuple[_Piece, ...]
    home: Tensor


class LayerStream:
    """The blocks of a model, on their way to the device and back out of its buffers."""

    def __init__(self, blocks: list[nn.Module], frozen: dict[nn.Module, list[nn.Parameter]], device: torch.device):
        pieces = [_pieces(frozen[block]) for block in blocks]
        sizes = [sum(in_stream(piece.bytes) for piece in of_one) for of_one in pieces]
        count = min(STREAM_BUFFERS, len(blocks))
        self._buffers = [torch.empty(max(sizes), dtype=torch.uint8, device=device) for _ in range(count)]
        self._holds: list[int | None] = [None] * count
        self._copier = Copier(device)
        self._arrived: list[Any] = [None] * count
        self._current: int | None = None
        self._is_paused = False
        homes = list(_areas(sizes, pinned=device.type == "cuda"))  # all of them, before a weight is touched
        self._layers = [
            _Layer(of_one, _moved(of_one, home, self._buffers[index % count]))
            for index, (of_one, home) in enumerate(zip(pieces, homes, strict=True))
        ]
        self._hooks = [
            handle
            for index, block in enumerate(blocks)
            for handle in (
                block.register_forward_pre_hook(partial(self._before_forward, index)),
                block.register_forward_hook(partial(self._after_forward, index)),
            )
        ]

    @property
    def device_bytes(self) -> int:
        """What the buffers take on the device."""
        return sum(buffer.nbytes for buffer in self._buffers)

    @property
    def host_bytes(self) -> int:
        """What waits in main memory."""
        return sum(layer.home.nbytes for layer in self._layers)

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """Copy nothing: blocks compute with what is there. The results are of no use, the time that they take is."""
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = False

    @contextlib.contextmanager
    def at_home(self) -> Iterator[None]:
        """Let every weight be what waits in main memory, for someone who reads them and computes nothing."""
        for layer in self._layers:
            for piece in layer.pieces:
                piece.put(piece.in_(layer.home))
        try:
            yield
        finally:
            for index, layer in enumerate(self._layers):
                for piece in layer.pieces:
                    piece.put(piece.in_(self._buffers[index % len(self._buffers)]))

    def remove(self) -> None:
        """Put every weight back to where it was; the buffers are free then."""
        self._copier.finish()
        for hook in self._hooks:
            hook.remove()
        for layer in self._layers:
            for piece in layer.pieces:
                piece.put(piece.in_(layer.home).to(piece.came_from, copy=True))
        self._layers, self._buffers = [], []

    def _before_forward(self, index: int, module: nn.Module, args: Any) -> None:
        if index == self._current:  # computed again, for its backward pass
            return
        last = len(self._layers) - 1
        if index < last:
            self._turn(index, index + 1)
        else:  # a backward pass begins with what is there; without gradients the next token does with the first block
            self._turn(index, index if torch.is_grad_enabled() else 0)

    def _after_forward(self, index: int, module: nn.Module, args: Any, output: Any) -> None:
        if not torch.is_grad_enabled():
            return
        for tensor in output if isinstance(output, tuple) else (output,):
            if isinstance(tensor, Tensor) and tensor.requires_grad:
                tensor.register_hook(partial(self._before_backward, index))

    def _before_backward(self, index: int, gradient: Tensor) -> None:
        self._turn(index, max(0, index - 1))

    def _turn(self, index: int, following: int) -> None:
        """See that a block is in its buffer when the device comes to it, and send for the one that follows."""
        self._fetch(index)
        self._copier.wait(self._arrived[index % len(self._buffers)])
        self._current = index
        if following % len(self._buffers) != index % len(self._buffers):
            self._fetch(following)

    def _fetch(self, index: int) -> None:
        """Fill a block's buffer, when all that was begun until now, which may read it, is done."""
        at = index % len(self._buffers)
        if self._holds[at] == index or self._is_paused:
            return
        self._holds[at] = index
        home = self._layers[index].home
        self._arrived[at] = self._copier.copy(self._buffers[at][: len(home)], home)


def stream_layers(model: nn.Module, device: Device) -> LayerStream:
    """Stream the frozen weights of every block; whatever else is not on the device goes there, to stay.

    Raises ModelError for a model without blocks that transformers could checkpoint, or without a frozen weight in them.
    """
    inner = _inner(model)
    place = torch.device(device.kind, device.index) if device.kind == "cuda" else torch.device(device.kind)
    blocks = [block for _, block in blocks_of(inner)]
    held_by = Counter(id(parameter) for module in inner.modules() for parameter in module._parameters.values())
    frozen = {
        block: [one for one in block.parameters() if not one.requires_grad and held_by[id(one)] == 1]
        for block in blocks
    }
    blocks = [block for block in blocks if frozen[block]]
    if not blocks:
        raise ModelError(
            f"{type(inner).__name__} has no blocks of frozen weights that could be streamed.",
            where="train.stream_layers", expected="a decoder of transformers 5, tuned with an adapter",
            cure="Set train.stream_layers to false.",
        )  # fmt: skip
    _settle_down(inner, {id(parameter) for block in blocks for parameter in frozen[block]}, place)
    stream = LayerStream(blocks, frozen, place)
    setattr(inner, ATTRIBUTE, stream)
    return stream


def blocks_of(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The repeated blocks of a model with their names: what transformers checkpoints, in their order."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [(name, module) for name, module in model.named_modules() if isinstance(module, GradientCheckpointingLayer)]


def stream_of(model: nn.Module) -> LayerStream | None:
    """The stream that is at work on a model."""
    return getattr(_inner(model), ATTRIBUTE, None)


def weights_at_home(model: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Inside of it all weights of a model can be read, streamed or not."""
    stream = stream_of(model)
    return contextlib.nullcontext() if stream is None else stream.at_home()


def stop_streaming(model: nn.Module) -> None:
    """Put the weights back, if a stream is at work."""
    stream = stream_of(model)
    if stream is not None:
        stream.remove()
        delattr(_inner(model), ATTRIBUTE)


def _inner(model: nn.Module) -> PreTrainedModel:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _settle_down(model: nn.Module, streamed: set[int], place: torch.device) -> None:
    for parameter in model.parameters():
        if id(parameter) not in streamed and parameter.device != place:
            for piece in _pieces([parameter]):
                piece.put(getattr(piece.owner, piece.name).to(place))
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(place)


def _pieces(parameters: list[nn.Parameter]) -> tuple[_Piece, ...]:
    """Every tensor of these parameters: of a 4-bit one its packed numbers, scales and tables."""
    found, start = [], 0
    for parameter in parameters:
        state = getattr(parameter, "quant_state", None)
        places = [(parameter, "data")]
        if state is not None:
            places += [(state, "absmax"), (state, "code")]
            if state.state2 is not None:
                places += [(state, "offset"), (state.state2, "absmax"), (state.state2, "code")]
        for owner, name in places:
            tensor = getattr(owner, name)
            found.append(_Piece(owner, name, start, tensor.dtype, tensor.shape, tensor.device))
            start += in_stream(found[-1].bytes)
    return tuple(found)


def _areas(sizes: list[int], *, pinned: bool) -> Iterator[Tensor]:
    """Room for each in main memory, cut from large pieces of it."""
    left = torch.empty(0, dtype=torch.uint8)
    for at, size in enumerate(sizes):
        if len(left) < size:
            whole = max(size, min(AREA_BYTES, sum(sizes[at:])))
            left = torch.empty(whole, dtype=torch.uint8, pin_memory=pinned)
        yield left[:size]
        left = left[size:]


def _moved(pieces: tuple[_Piece, ...], home: Tensor, buffer: Tensor) -> Tensor:
    """Copy a block to main memory and leave views of the buffer in its place."""
    for piece in pieces:
        piece.in_(home).copy_(getattr(piece.owner, piece.name))
        piece.put(piece.in_(buffer))
    return home

"""CUDA graphs of the simulated device.

A graph is a tape of operations with the very tensors that they read and made. As on CUDA
- a recording computes nothing: what was written in it is as before, and what was made in it is NaN;
- a replay repeats the operations on the same memory, and runs no Python of the program;
- a recording refuses waits, copies from and to the host, and random draws (`Device.refuse_in_recording`).

Views need no operation on a tape: their memory is that of another tensor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map


class _Operation(NamedTuple):
    func: Callable
    args: tuple
    kwargs: dict
    made: list[Tensor]  # tensors with memory of their own


def _alias(value: object) -> object:
    return value.detach() if isinstance(value, Tensor) else value


def _tensors(*values: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def memory(tensor: Tensor) -> int:
    """The address of the memory that a tensor lies in."""
    return tensor.untyped_storage().data_ptr()


class Tape:
    """The operations of a graph, of one thread."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._operations: list[_Operation] = []
        self._written: list[tuple[Tensor, Tensor]] = []
        self._constant: set[int] = set()

    def is_of_this_thread(self) -> bool:
        return threading.get_ident() == self._thread

    def take_down(self, func: Callable, args: tuple, kwargs: dict, scalars: list[Tensor]) -> object:
        """Run an operation over CPU tensors, so that what follows has something to read; what it makes.

        `scalars` are those of its arguments that are on the host: a kernel takes their values, not their addresses.
        """
        self._constant |= {memory(tensor) for tensor in scalars}
        if torch.Tag.inplace_view in getattr(func, "tags", ()):
            return func(*args, **kwargs)
        given = {memory(tensor) for tensor in _tensors(args, kwargs)}
        # Aliases: a tensor's shape may change later, and its memory stays.
        args_then, kwargs_then = tree_map(_alias, args), tree_map(_alias, kwargs)
        written = _written(func, args_then, kwargs_then)
        self._written += [(tensor, tensor.clone()) for tensor in written]
        made = func(*args, **kwargs)
        fresh = [_alias(tensor) for tensor in _tensors(made) if memory(tensor) not in given]
        if fresh or written:
            self._operations.append(_Operation(func, args_then, kwargs_then, fresh))
        return made

    def rewind(self) -> None:
        """Undo what was computed."""
        for tensor, before in reversed(self._written):
            tensor.copy_(before)
        for operation in self._operations:
            for tensor in operation.made:
                tensor.fill_(float("nan") if tensor.is_floating_point() else 0)
        self._written = []

    def replay(self) -> None:
        for func, args, kwargs, made in self._operations:
            again = func(*args, **kwargs)
            given = {memory(tensor) for tensor in _tensors(args, kwargs)}
            fresh = [tensor for tensor in _tensors(again) if memory(tensor) not in given]
            for kept, tensor in zip(made, fresh, strict=True):
                kept.copy_(tensor)

    def outside(self) -> set[int]:
        """The addresses of the memory that the graph reads or writes but has not made itself."""
        made = {memory(tensor) for operation in self._operations for tensor in operation.made}
        used = {
            memory(tensor) for operation in self._operations for tensor in _tensors(operation.args, operation.kwargs)
        }
        return used - made - self._constant

    def __len__(self) -> int:
        return len(self._operations)


def _written(func: Callable, args: tuple, kwargs: dict) -> list[Tensor]:
    """The tensors that an operation writes to."""
    schema = getattr(func, "_schema", None)
    if schema is None:
        return []
    named = dict(zip((argument.name for argument in schema.arguments), args, strict=False)) | kwargs
    names = [argument.name for argument in schema.arguments if argument.alias_info and argument.alias_info.is_write]
    return _tensors([named.get(name) for name in names])


def graph_stands(device: Callable) -> dict[str, object]:
    """What stands for the functions and classes of torch.cuda; `device` gives the simulated device."""

    class CUDAGraph:
        def replay(self) -> None:
            device().replay(self.tape)

    @contextmanager
    def graph(into: CUDAGraph, **_: object) -> Iterator[None]:
        device().wait("the beginning of a recording")
        device().begin_recording()
        try:
            yield
        finally:
            into.tape = device().end_recording()

    class Stream:
        def __init__(self, *_: object) -> None: ...

        def wait_stream(self, other: object) -> None: ...

    @contextmanager
    def stream(_: object) -> Iterator[None]:
        yield

    return {"CUDAGraph": CUDAGraph, "graph": graph, "Stream": Stream, "stream": stream}

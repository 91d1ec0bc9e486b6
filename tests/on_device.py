"""A CUDA device, or Apple's (MPS), simulated on the CPU: the program's own code, driven as where there is one.

```
with simulated_cuda() as device:
    train(CUDA)
assert not device.waits, device.told()
```

A tensor on the device is an `OnDevice`: it says cuda:0, and wraps an ordinary CPU tensor with the numbers. So control
flow, checkpoints and scores are a run's own, and can be compared with the CPU's bit by bit.

**It fails where CUDA would** (`Refused`):
- where a tensor on the device and one on the CPU meet, but for what CUDA takes: scalars, and indices, which it copies;
- where a tensor on the device is turned into a NumPy array or pinned, or is drawn from a CPU generator;
- where fused Adam gets a gradient or a moment that lies in memory in another way than its weight. Convolutions give
  their weights' gradients the memory format that cuDNN gives them.

**And where CUDA would give other numbers at times**:
- a pinned buffer that is written before the copy from it has ended: `Race`;
- a copy to the CPU that is read before it has been waited for: it holds NaN (or -1) until then.

**On MPS other rules hold** (`simulated_mps`; `mps_rules.py` has those of operators):
- there is no float64, no page-locked memory, and nothing of torch.cuda;
- copies that do not block are refused: they read memory that may be gone (pytorch/pytorch#189690);
- an operator needs a kernel in torch's own list of them;
- the backward pass of maps that lie channels last is refused: it has been wrong (#175189, #142344, #189233).

**It counts**, by file and line, kernels (one an operation that is no view: on CUDA some are several), copies to the
device, and waits of the host for the device. It has a random generator of its own, as the device has.

**It records CUDA graphs** (`on_device_graphs.py`): a recording computes nothing, and a replay repeats its operations on
the same memory.

**It does not see** the kernels themselves and how cuBLAS and cuDNN round, the device's memory and its end, streams
beside the first one, several devices, NCCL, torch.compile. Under autocast it computes what a CPU computes
in that dtype. No gradient passes a copy between devices.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from mps_rules import has_kernel, lies_channels_last
from on_device_graphs import Tape, graph_stands
from torch import Tensor, nn
from torch._prims_common import suggest_memory_format
from torch.autograd.grad_mode import inference_mode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda", 0)
MPS = torch.device("mps", 0)
CPU = torch.device("cpu")
ROOT = str(Path(__file__).parents[1])

_WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "bincount"}
"""Operations whose result the host needs."""

_WITHOUT_KERNEL = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "_unsafe_view", "set_"}
"""Beside views; and those of `_WAITING` that only fetch a number."""

_INDEXING = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_"}

_FROM_HOST = {torch.tensor, torch.as_tensor, torch.asarray}

_COMPOSITE = {"one_hot"}
"""Functions that make tensors where C++ thinks that their argument lies."""


_SETTINGS = (
    (torch.backends.cudnn, "allow_tf32"),
    (torch.backends.cudnn, "benchmark"),
    (torch.utils.deterministic, "fill_uninitialized_memory"),
)


class Refused(RuntimeError):
    """What the device refuses."""


class Race(AssertionError):
    """What CUDA does not notice, and computes wrong numbers from."""


# ------------------------------------------------------------------------------------------------------ what is counted


class Copy(NamedTuple):
    """A copy to the device.

    Attributes:
        place: file and line.
        size: bytes.
        blocking: the host waits for it.
        pinned: its source is page-locked memory; from other memory CUDA copies it once more.
        direct: its source is dense and of the dtype that is wanted; else CUDA makes a pageable copy of it first.
    """

    place: str
    size: int
    blocking: bool
    pinned: bool
    direct: bool

    @property
    def free(self) -> bool:
        """Whether it costs the host nothing but its launch."""
        return not self.blocking and self.pinned and self.direct


class Wait(NamedTuple):
    """A wait of the host for the device.

    Attributes:
        place: file and line.
        why: what waits.
        queued: kernels that the device was given after what is waited for: 0 where it runs dry.
    """

    place: str
    why: str
    queued: int


class _Flight(NamedTuple):
    """A copy that nobody has waited for yet.

    Attributes:
        place: file and line.
        host: its end on the CPU.
        numbers: what that held when the copy was launched; or, of a copy to the CPU, what it will hold.
        to_host: whether it is a copy to the CPU.
    """

    place: str
    host: Tensor
    numbers: Tensor
    to_host: bool

    def land(self) -> None:
        if self.to_host:
            self.host.copy_(self.numbers)
        elif not torch.equal(_bytes(self.host), _bytes(self.numbers)):
            raise Race(f"{self.place}: the source of this copy was written again before the copy had ended")


class Device:
    """What the device was asked for.

    Args:
        where: what it is called.

    Attributes:
        kernels: how many, by place and operation.
        copies: to the device.
        waits: of the host.
        generator: the device's own.
        launched: kernels so far; `clear` leaves it.
        tapes: of the graphs that were recorded, in order; `clear` leaves them.
        tape: of the recording that goes on, if there is one.
    """

    def __init__(self, where: torch.device = CUDA) -> None:
        self.where = where
        self.generator = torch.Generator()
        self._pinned: list[Tensor] = []
        self._flights: list[_Flight] = []
        self._lock = threading.RLock()  # a thread that packs waits for copies too
        self.launched = 0
        self.tapes: list[Tape] = []
        self.tape: Tape | None = None
        self.clear()

    def clear(self) -> None:
        """Count from 0."""
        self.kernels: Counter[str] = Counter()
        self.copies: list[Copy] = []
        self.waits: list[Wait] = []

    def told(self) -> str:
        """What was counted, the most frequent first: for an assertion's message."""
        lines = [f"{self.kernels.total()} kernels, {len(self.copies)} copies, {len(self.waits)} waits"]
        kinds = Counter(
            f"{copy.place} {'blocking' if copy.blocking else 'non_blocking'} {'pinned' if copy.pinned else 'pageable'}"
            + ("" if copy.direct else " by way of a temporary")
            for copy in self.copies
        )
        waits = Counter(f"{wait.place} {wait.why}, {wait.queued} kernels queued" for wait in self.waits)
        for name, counts in (("copies", kinds), ("waits", waits), ("kernels", self.kernels)):
            lines += [f"{n:6d} {name}: {place}" for place, n in counts.most_common(12)]
        return "\n".join(lines)

    def launch(self, operation: str) -> None:
        """Count a kernel."""
        self.kernels[f"{_place()} {operation}"] += 1
        self.launched += 1

    def replay(self, tape: Tape) -> None:
        """Count a graph as one kernel, and repeat its operations."""
        self.launch("a graph")
        tape.replay()

    def wait(self, why: str) -> None:
        """Have the host wait for all that the device was given."""
        self.refuse_in_recording(why)
        self.waits.append(Wait(_place(), why, 0))
        self.land(self.under_way())

    @property
    def is_mps(self) -> bool:
        """Whether it is Apple's."""
        return self.where.type == "mps"

    def holds(self, device: object) -> bool:
        """Whether a device is this one and not the CPU."""
        kind = torch.device(device).type
        if kind in ("cuda", "mps") and kind != self.where.type:
            raise Refused(f"{_place()}: {device} on a machine with {self.where}")
        return kind == self.where.type

    def pin(self, tensor: Tensor) -> Tensor:
        """Take memory as page-locked."""
        if self.is_mps:
            raise Refused(f"{_place()}: page-locked memory, which {self.where} has not")
        self._pinned.append(tensor)  # kept: the address stays this tensor's
        return tensor

    def is_pinned(self, tensor: Tensor) -> bool:
        """Whether a tensor lies in page-locked memory."""
        first = tensor.data_ptr()
        spans = ((kept.untyped_storage().data_ptr(), kept.untyped_storage().nbytes()) for kept in self._pinned)
        return any(begin <= first < begin + size for begin, size in spans)

    def take_in(self, source: Tensor, dtype: torch.dtype, non_blocking: bool) -> None:
        """Count a copy to the device, and keep an eye on its source until it has ended."""
        self._require_blocking(non_blocking)
        if not source.numel():
            return
        self.refuse_in_recording("a copy from the host")
        pinned = self.is_pinned(source)
        direct = dtype == source.dtype and _is_dense(source)
        copy = Copy(_place(), source.numel() * source.element_size(), not non_blocking, pinned, direct)
        self.copies.append(copy)
        if copy.blocking:
            self.land(self.under_way())
        elif copy.free:
            with self._lock:
                self._flights.append(_Flight(copy.place, source.detach(), source.detach().clone(), to_host=False))

    def give_out(self, numbers: Tensor, host: Tensor, non_blocking: bool) -> Tensor:
        """Copy to the CPU; what must be waited for is not there before."""
        self.refuse_in_recording("a copy to the host")
        self._require_blocking(non_blocking)
        if non_blocking:
            with self._lock:
                self._flights.append(_Flight(_place(), host, numbers, to_host=True))
            return host.fill_(float("nan") if host.is_floating_point() else -1)
        self.wait("copy to the CPU")
        return host.copy_(numbers)

    def _require_blocking(self, non_blocking: bool) -> None:
        if non_blocking and self.is_mps:
            raise Refused(f"{_place()}: a copy to or from {self.where} that is not waited for")

    def land(self, flights: list[_Flight]) -> None:
        """End copies, of those that are still under way."""
        with self._lock:
            ended = [flight for flight in self._flights if any(flight is one for one in flights)]
            self._flights = [flight for flight in self._flights if not any(flight is one for one in ended)]
            for flight in ended:
                flight.land()

    def under_way(self) -> list[_Flight]:
        """The copies that nobody has waited for."""
        with self._lock:
            return list(self._flights)

    def recording(self) -> Tape | None:
        """The tape of the graph that this thread records now."""
        return self.tape if self.tape is not None and self.tape.is_of_this_thread() else None

    def refuse_in_recording(self, what: str) -> None:
        """Refuse what a graph cannot hold."""
        if self.recording() is not None:
            raise Refused(f"{_place()}: {what} while a graph is recorded")

    def begin_recording(self) -> None:
        """Take down operations from now on."""
        self.tape = Tape()

    def end_recording(self) -> Tape:
        """The tape; its memory is as if nothing had been computed."""
        tape, self.tape = self.tape, None
        tape.rewind()
        self.tapes.append(tape)
        return tape


_device = Device()
"""The one in use."""


def _place() -> str:
    """The innermost line of this project on the stack, but for this file's."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(ROOT) and name != __file__:
            return f"{name[len(ROOT) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def _is_dense(tensor: Tensor) -> bool:
    """Whether a tensor lies in memory without holes or overlap, in whatever order of its sides."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


# ------------------------------------------------------------------------------------------------ tensors on the device


class OnDevice(Tensor):
    """A tensor on the simulated device; `numbers` is the CPU tensor that it wraps."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> OnDevice:
        if _device.is_mps and numbers.dtype in (torch.float64, torch.complex128):
            raise Refused(f"{_place()}: {numbers.dtype} on {_device.where}")
        made = Tensor._make_wrapper_subclass(
            cls,
            numbers.size(),
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            layout=numbers.layout,
            device=CPU,  # what autograd and autocast take it for: they know no CUDA device here
        )
        made.numbers = numbers
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    device = property(lambda self: _device.where)
    is_cuda = property(lambda self: not _device.is_mps)
    is_mps = property(lambda self: _device.is_mps)
    is_cpu = property(lambda self: False)

    def get_device(self) -> int:
        return _device.where.index

    def __repr__(self, **_: object) -> str:
        return f"OnDevice({self.numbers!r})"

    def __deepcopy__(self, memo: dict[int, object]) -> object:
        if id(self) not in memo:
            twin = OnDevice(self.numbers.detach().clone()).requires_grad_(self.requires_grad)
            if isinstance(self, nn.Parameter):
                twin._is_param = True
            memo[id(self)] = twin
        return memo[id(self)]

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        operation = func._overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if operation == "copy_" and not all(isinstance(tensor, OnDevice) for tensor in tensors):
            return _copy_between(*args, **kwargs)
        _require_one_device(func, operation, args, tensors)
        if operation == "_fused_adam_":
            _require_alike(*args[:4])
        _count(func, operation, args)
        if _device.is_mps:
            _require_mps(func, operation, args)
        made = _computed(func, args, kwargs)
        if operation == "convolution_backward" and not _device.is_mps:
            made = _as_cudnn_lays_out(made, args[1], args[2])
        return return_and_correct_aliasing(func, args, kwargs, tree_map(_on_device, made))


def _computed(func, args, kwargs) -> object:
    """What a function makes of the numbers of tensors; a recording takes it down."""
    given = (tree_map(_numbers, args), tree_map(_numbers, kwargs))
    tape = _device.recording()
    if tape is None:
        return func(*given[0], **given[1])
    attention = "scaled_dot_product" in str(func)  # it could draw dropout, which no network here has
    if torch.Tag.nondeterministic_seeded in getattr(func, "tags", ()) and not attention:
        raise Refused(f"{_place()}: {func} draws while a graph is recorded")
    scalars = [
        leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and not isinstance(leaf, OnDevice)
    ]
    return tape.take_down(func, *given, scalars)


def _require_mps(func, operation: str, args) -> None:
    if not has_kernel(func):
        raise Refused(f"{_place()}: {operation} has no kernel for {_device.where}")
    if lies_channels_last(operation, [_numbers(arg) for arg in args]):
        raise Refused(f"{_place()}: {operation} of maps that lie channels last, on {_device.where}")


def _numbers(value: object) -> object:
    return value.numbers if isinstance(value, OnDevice) else value


def _on_device(value: object) -> object:
    return OnDevice(value) if isinstance(value, Tensor) and not isinstance(value, OnDevice) else value


def _count(func, operation: str, args) -> None:
    masks = _INDEXING & {operation} and any(isinstance(i, Tensor) and i.dtype == torch.bool for i in args[1])
    if operation in _WAITING or masks:
        _device.wait("a boolean mask" if masks else operation)
    is_view = any(given.alias_info and not given.alias_info.is_write for given in func._schema.returns)
    if not is_view and operation not in _WITHOUT_KERNEL | {"_local_scalar_dense"}:
        _device.launch(operation)


def _copy_between(into: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """`into.copy_(source)`, one of which is on the device."""
    if isinstance(into, OnDevice):
        _device.take_in(source, into.dtype, non_blocking)
        into.numbers.copy_(source)
        return into
    return _device.give_out(_numbers(source).clone(), into, non_blocking and _device.is_pinned(into))


def _require_one_device(func, operation: str, args, tensors: list[Tensor]) -> None:
    host = [tensor for tensor in tensors if not isinstance(tensor, OnDevice)]
    if operation in _INDEXING and isinstance(args[0], OnDevice):
        indices = [index for index in args[1] if isinstance(index, Tensor) and not isinstance(index, OnDevice)]
        for index in indices:  # CUDA copies them itself
            _device.take_in(index, index.dtype, non_blocking=False)
        host = [tensor for tensor in host if not any(tensor is index for index in indices)]
    scalars = torch.Tag.pointwise in func.tags or operation in ("fill_", "index_put_", "_index_put_impl_")
    if all(tensor.dim() == 0 for tensor in host) and (scalars or not host):
        return
    raise Refused(
        f"{_place()}: {operation} of tensors on {_device.where} and on the CPU "
        f"({', '.join(str(list(tensor.shape)) for tensor in host)}), which must be on one device"
    )


def _require_alike(weights, gradients, first_moments, second_moments) -> None:
    """What fused kernels require of their lists: `check_fast_path_restrictions` of ATen's ForeachUtils.h."""
    for name, others in (("gradient", gradients), ("moment", first_moments), ("moment", second_moments)):
        for weight, other in zip(weights, others, strict=True):
            alike = all(
                size == 1 or mine == its
                for size, mine, its in zip(weight.shape, weight.stride(), other.stride(), strict=True)
            )
            if not alike or other.dtype != weight.dtype or not _is_dense(other):
                raise Refused(
                    f"{_place()}: fused Adam over a weight {tuple(weight.shape)} of strides {weight.stride()}, "
                    f"{weight.dtype}, with a {name} of strides {other.stride()}, {other.dtype}"
                )


def _as_cudnn_lays_out(made, x: Tensor, weight: Tensor):
    """A weight's gradient in the memory format in which cuDNN computes: channels last where either input lies so."""
    of_x, of_weight, of_bias = made
    if of_weight is None or weight.dim() != 4:
        return made
    formats = {suggest_memory_format(tensor.numbers) for tensor in (x, weight)}
    last = torch.channels_last
    return of_x, of_weight.contiguous(memory_format=last if last in formats else torch.contiguous_format), of_bias


# -------------------------------------------------------------------------------------------------------- the way there


class _Placement(TorchFunctionMode):
    """Makes and moves tensors where `device=` and `.to` say."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is Tensor.to:
            return _to(*args, **kwargs)
        if func is Tensor.cpu:
            return _move(args[0], CPU, **kwargs)
        if func is Tensor.cuda:
            return _move(args[0], CUDA, **kwargs)
        on_device = any(isinstance(leaf, OnDevice) for leaf in tree_leaves((args, kwargs)))
        if on_device and func in (Tensor.numpy, Tensor.__array__):
            raise Refused(f"{_place()}: a tensor on {_device.where} as a NumPy array")
        if on_device and func is Tensor.tolist:
            _device.wait("tolist")
            return args[0].numbers.tolist()
        if on_device and getattr(func, "__name__", "") in _COMPOSITE:
            _device.launch(func.__name__)
            return OnDevice(_computed(func, args, kwargs))
        if kwargs.get("device") is not None:
            return _made(func, args, kwargs, on_device)
        if kwargs.get("pin_memory"):
            return _device.pin(func(*args, **{**kwargs, "pin_memory": False}))
        return func(*args, **kwargs)


def _made(func, args, kwargs, of_device: bool) -> object:
    """What a function makes where `device` says; `of_device`: a tensor on the device is among its arguments."""
    if not _device.holds(kwargs["device"]):
        if of_device and func in _FROM_HOST:
            _device.wait("copy to the CPU")
        return func(*tree_map(_numbers, args), **tree_map(_numbers, kwargs))
    if kwargs.get("generator") is not None:
        raise Refused(f"{_place()}: {func.__name__} on {_device.where} from a CPU generator")
    made = _computed(func, args, {**kwargs, "device": CPU})
    if func in _FROM_HOST:
        if of_device:
            return OnDevice(made)
        _device.take_in(made, made.dtype, non_blocking=False)
        made = made.detach().clone().requires_grad_(made.requires_grad)
    elif func.__name__ not in _WITHOUT_KERNEL:
        _device.launch(func.__name__)
    return OnDevice(made.detach()).requires_grad_(made.requires_grad)


def _to(x: Tensor, *args, **kwargs) -> Tensor:
    copy = kwargs.pop("copy", False)
    if args and isinstance(args[0], Tensor):
        args = (args[0].device, args[0].dtype, *args[1:])
    device, dtype, non_blocking, layout = torch._C._nn._parse_to(*args, **kwargs)
    return _move(x, device or x.device, non_blocking, layout, dtype, copy)


def _move(x: Tensor, device=CUDA, non_blocking=False, memory_format=None, dtype=None, copy=False) -> Tensor:
    """`x.to(...)` of all that can be said of a tensor."""
    change = {"dtype": dtype or x.dtype, "memory_format": memory_format or torch.preserve_format}
    if _device.holds(device) == isinstance(x, OnDevice):
        return Tensor.to(x, **change, copy=copy)
    if x.requires_grad and torch.is_grad_enabled() and not x.is_leaf:
        raise NotImplementedError("a gradient through a copy between devices")
    if isinstance(x, OnDevice):
        numbers = x.numbers.detach().to(**change, copy=True)
        return _device.give_out(numbers, torch.empty_like(numbers), non_blocking).requires_grad_(x.requires_grad)
    _device.take_in(x, change["dtype"], non_blocking)
    return OnDevice(x.detach().to(**change, copy=True)).requires_grad_(x.requires_grad)


# ---------------------------------------------------------------------------------------------------------- the machine


class _Event:
    """torch.cuda.Event: it waits for the copies that were launched before it was recorded."""

    def __init__(self, *_: object, **__: object) -> None:
        self._before: list[_Flight] = []
        self._launched: int | None = None

    def record(self, stream: object = None) -> None:
        self._before, self._launched = _device.under_way(), _device.launched

    def synchronize(self) -> None:
        if self._launched is None:  # never recorded: CUDA takes it as over
            return
        _device.refuse_in_recording("Event.synchronize")
        _device.waits.append(Wait(_place(), "Event.synchronize", _device.launched - self._launched))
        _device.land(self._before)


class _Autocast(torch.autocast):
    """The device's autocast, by the CPU's."""

    def __init__(self, device_type: str, *args: object, **kwargs: object) -> None:
        super().__init__("cpu" if device_type == _device.where.type else device_type, *args, **kwargs)


def _pin_memory(tensor: Tensor, *_: object) -> Tensor:
    if isinstance(tensor, OnDevice):
        raise Refused(f"{_place()}: pinning a tensor on {_device.where}")
    pinned = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
    return _device.pin(pinned.copy_(tensor))


def _module_to(to):
    """Module.to, by swapping: the parameters stay the same objects, as on CUDA, where their `data` changes alone."""

    def swapping(module: nn.Module, *args: object, **kwargs: object) -> nn.Module:
        before = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        if args and isinstance(args[0], Tensor):  # torch's own parsing would take it for a tensor on the CPU
            args = (args[0].device, args[0].dtype, *args[1:])
        try:
            return to(module, *args, **kwargs)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(before)

    return swapping


def _thread_run(run):
    """Thread.run, with tensors placed in it too: a mode holds for its own thread."""

    def placing(thread: threading.Thread) -> None:
        with _Placement():
            run(thread)

    return placing


def _begin_inference(mode: inference_mode) -> None:
    mode.graded = torch.is_grad_enabled()
    torch._C._set_grad_enabled(mode.graded and not mode.mode)


def _end_inference(mode: inference_mode, *_: object) -> None:
    torch._C._set_grad_enabled(mode.graded)


def _patch_cuda(patch: pytest.MonkeyPatch) -> None:
    """torch.cuda and torch.accelerator of a machine with one GPU."""
    stands = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "synchronize": lambda device=None: _device.wait("synchronize"),
        "current_stream": lambda device=None: SimpleNamespace(wait_stream=lambda other: None),
        "is_current_stream_capturing": lambda: _device.recording() is not None,
        "Event": _Event,
        "mem_get_info": lambda device=None: (70 << 30, 80 << 30),
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_name": lambda device=None: "a simulated GPU",
        "manual_seed": lambda seed: _device.generator.manual_seed(seed),
        "manual_seed_all": lambda seed: _device.generator.manual_seed(seed),
        "get_rng_state": lambda device=None: _device.generator.get_state(),
        "set_rng_state": lambda state, device=None: _device.generator.set_state(state),
    }
    for name, value in (stands | graph_stands(lambda: _device)).items():
        patch.setattr(torch.cuda, name, value)
    stands = {
        "is_available": lambda: True,
        "current_accelerator": lambda check_available=False: torch.device("cuda"),
        "current_device_index": lambda: 0,
        "set_device_index": lambda device: None,
        "current_stream": lambda device=None: SimpleNamespace(is_capturing=lambda: _device.recording() is not None),
    }
    for name, value in stands.items():
        patch.setattr(torch.accelerator, name, value, raising=False)  # some came after torch 2.6


def _patch_mps(patch: pytest.MonkeyPatch) -> None:
    """A Mac's torch: torch.cuda is there, but nothing of it works."""

    def refuse(*_: object, **__: object) -> None:
        raise Refused(f"{_place()}: torch.cuda on a machine without CUDA")

    for name in ("current_device", "set_device", "synchronize", "current_stream", "Event", "get_device_capability"):
        patch.setattr(torch.cuda, name, refuse)
    patch.setattr(torch.cuda, "is_available", lambda: False)
    patch.setattr(torch.cuda, "device_count", lambda: 0)
    patch.setattr(torch.backends.mps, "is_available", lambda: True)
    stands = {
        "is_available": lambda: True,
        "current_accelerator": lambda check_available=False: torch.device("mps"),
        "current_device_index": lambda: 0,
        "current_stream": lambda device=None: SimpleNamespace(is_capturing=lambda: False),
    }
    for name, value in stands.items():
        patch.setattr(torch.accelerator, name, value, raising=False)


def simulated_cuda() -> AbstractContextManager[Device]:
    """A machine with one CUDA GPU; what is counted on it.

    Raises:
        Race: on leaving, of a copy that nobody waited for.
    """
    return _simulated(CUDA, _patch_cuda)


def simulated_mps() -> AbstractContextManager[Device]:
    """A Mac with Apple's GPU; what is counted on it."""
    return _simulated(MPS, _patch_mps)


@contextmanager
def _simulated(where: torch.device, patch_machine: Callable[[pytest.MonkeyPatch], None]) -> Iterator[Device]:
    global _device
    _device = device = Device(where)
    mode, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with pytest.MonkeyPatch.context() as patch:
        patch_machine(patch)
        patch.setattr(Tensor, "pin_memory", _pin_memory)
        patch.setattr(torch, "autocast", _Autocast)
        patch.setattr(nn.Module, "to", _module_to(nn.Module.to))
        patch.setattr(threading.Thread, "run", _thread_run(threading.Thread.run))
        # Views of a wrapper cannot be inference tensors. By its class: decorators hold instances since the import.
        patch.setattr(inference_mode, "__enter__", _begin_inference)
        patch.setattr(inference_mode, "__exit__", _end_inference)
        for owner, name in _SETTINGS:  # what a command sets for a GPU ends with the machine
            patch.setattr(owner, name, getattr(owner, name))
        try:
            with _Placement():
                yield device
        finally:
            torch.use_deterministic_algorithms(mode, warn_only=warn)
    device.land(device.under_way())

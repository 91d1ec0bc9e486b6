"""Checkpoints: safetensors files with one JSON string as metadata. They contain no pickle, no path and no time.

A CRC-32 of facts and tensors is among the facts, so that damage on the disk is found before a number is used. It does
not guard against a person who writes both.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_bytes
from safetensors.torch import save_file
from torch import Tensor, nn

from labeldep_cli.compute.interruption import unbroken
from labeldep_cli.compute.strides import laid_out_like
from labeldep_cli.errors import CheckpointError
from labeldep_cli.files import publish, storage_error, storing
from labeldep_cli.runs.layout import FACTS_KEY, SCRATCH, facts_in_head, facts_of, sound_facts
from labeldep_cli.text import is_utf8

Tensors = Mapping[str, Tensor]
"""The tensors of a checkpoint by name."""

Requirement = Callable[[dict[str, Any]], None]
"""Raises ValueError, if facts are not those of a kind of checkpoint."""

FORMAT = 2
_UNCHECKED = 1
"""The format before this one: the same without a checksum."""

_CHECKSUM = "checksum"
_REMEDY = "Train it again from scratch: the same command with --fresh."


def save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint; the file appears complete or not at all.

    Args:
        path: path of the file.
        tensors: tensors by name.
        facts: everything else, as JSON values.

    Raises:
        StorageError: the disk is full, read-only or without permission.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    temporary = path.parent / SCRATCH / path.name
    with storing(path):
        sweep(path.parent)
        try:
            temporary.parent.mkdir()
            # The order of the facts is kept: a resumed run writes metrics.jsonl and result.json from them.
            own = {"format": FORMAT, **facts}
            with unbroken():
                save_file(stored, temporary, {FACTS_KEY: json.dumps({**own, _CHECKSUM: _checksum(own, stored)})})
            temporary.chmod(0o644)  # safetensors makes its files readable for their owner only
            publish(temporary, path)
        except SafetensorError as error:  # the operating system's error is part of its text
            raise storage_error(path, OSError(_errno(str(error)), str(error))) from error
        finally:
            sweep(path.parent)


def sweep(folder: Path) -> None:
    """Remove what a kill during `save` left in a run's folder.

    Safetensors writes to a file with a random name in its target's folder. So `save` gives it a folder of its own.
    """
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)


def _errno(text: str) -> int:
    digits = text.rpartition("os error ")[2].split(")")[0]
    return int(digits) if digits.isdigit() else 0


def load(path: Path, require: Requirement | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint.

    Args:
        path: path of the file.
        require: raises ValueError unless the facts are those of this kind of checkpoint (`runs.facts`).

    Returns:
        Tensors by name, on the CPU; the facts.

    Raises:
        CheckpointError: the file is missing, truncated, damaged, not a labeldep checkpoint, or one of those facts is
            missing or of another type.
    """
    try:
        tensors, facts = _read(path)
    except FileNotFoundError:
        raise CheckpointError(
            f"there is no checkpoint {path}", "Train one: labeldep pretrain or labeldep adversarial"
        ) from None
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise broken(path) from error
    checksum = facts.pop(_CHECKSUM, None)
    if facts.get("format") == FORMAT and checksum != _checksum(facts, tensors):
        raise CheckpointError(f"{path} is damaged: it is not as it was written", _REMEDY)
    if facts.pop("format", None) not in (FORMAT, _UNCHECKED):
        raise CheckpointError(f"{path} is a checkpoint of another version of labeldep", _REMEDY)
    try:
        if require is not None:
            require(facts)
    except ValueError as error:
        raise CheckpointError(f"{path} is a checkpoint of another kind: {error}", _REMEDY) from error
    return tensors, facts


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and facts of a file; raises what safetensors raises, or KeyError or ValueError without facts."""
    if not is_utf8(str(path)):  # safetensors cannot open it
        return load_bytes(path.read_bytes()), facts_in_head(path)
    with unbroken(), safe_open(path, "pt") as file:
        facts = facts_of(file.metadata())
        return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 - not a mapping


def _checksum(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> int:
    """The CRC-32 of the facts as JSON, and of names, shapes and values of the tensors."""
    found = zlib.crc32(json.dumps(facts).encode())
    for name, tensor in sorted(tensors.items()):
        found = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), found)
        flat = tensor.reshape(-1).as_strided((tensor.numel(),), (1,))  # of one value the stride may be anything
        found = zlib.crc32(flat.view(torch.uint8).numpy().data, found)
    return found


def broken(path: Path) -> CheckpointError:
    """The error for a file that is cut off, or that another program wrote."""
    return CheckpointError(f"{path} is no labeldep checkpoint (truncated or foreign)", _REMEDY)


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of a checkpoint, without its tensors; empty if the file is missing or broken."""
    if not is_utf8(str(path)):
        return facts_in_head(path)
    try:
        with unbroken(), safe_open(path, "pt") as file:
            return sound_facts(file.metadata())
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        return {}


def pack(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """A module's state, with a prefix before every name."""
    return {f"{prefix}.{name}": value for name, value in module.state_dict().items()}


def require_shapes(
    prefix: str, tensors: Mapping[str, Tensor], build: Callable[[Tensors], nn.Module], path: Path
) -> None:
    """Refuse facts that claim a network of other shapes than the tensors, before the memory for it is taken.

    Args:
        prefix: of the network's names.
        tensors: those of the checkpoint.
        build: makes the network that the facts claim, with room for tensors; here for such without values.
        path: path of the checkpoint.

    Raises:
        CheckpointError: a shape differs, or the network cannot be built.
    """
    weightless = {name: tensor.to("meta") for name, tensor in tensors.items()}
    try:
        with torch.device("meta"):
            claimed = build(weightless)
    except (TypeError, ValueError, RuntimeError, MemoryError, OverflowError) as error:
        raise CheckpointError(f"{path} claims a {prefix} that cannot be built: {error}", _REMEDY) from error
    unpack(prefix, weightless, claimed, path)


def unpack(prefix: str, tensors: Mapping[str, Tensor], module: nn.Module, path: Path) -> None:
    """Load a module's state from the tensors with a prefix; all names must match.

    Raises:
        CheckpointError: names or shapes do not match.
    """
    state = {name[len(prefix) + 1 :]: value for name, value in tensors.items() if name.startswith(f"{prefix}.")}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        problem = str(error).splitlines()[-1].strip()
        raise CheckpointError(
            f"{path} does not fit this {prefix}: {problem}", "Use the settings of that run, or train a new run."
        ) from None


def pack_optimizer(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as tensors named PREFIX.PARAMETER.STATE."""
    states = optimizer.state_dict()["state"]
    return {f"{prefix}.{index}.{name}": value for index, state in states.items() for name, value in state.items()}


def unpack_optimizer(prefix: str, tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    """Load the state from `pack_optimizer`; learning rate and betas of the optimizer are kept.

    A file stores tensors in row-major order, so Adam's moments get the strides of their weights again.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(f"{prefix}."):
            index, name = key[len(prefix) + 1 :].split(".")
            weight = parameters[int(index)]
            moment = laid_out_like(weight, value) if value.shape == weight.shape else value
            state.setdefault(int(index), {})[name] = moment
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

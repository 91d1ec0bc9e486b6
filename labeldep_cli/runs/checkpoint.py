"""Checkpoints: safetensors files whose metadata is one JSON string. No pickle, no path, no clock."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from labeldep_cli.compute.strides import laid_out_like
from labeldep_cli.errors import CheckpointError
from labeldep_cli.files import publish, storage_error, storing
from labeldep_cli.runs.layout import FACTS_KEY, SCRATCH

FORMAT = 1
_REMEDY = "Train it anew: the same command with --fresh."


def save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: of the file.
        tensors: by name.
        facts: JSON values: all that is no tensor.

    Raises:
        StorageError: the disk is full, read-only or forbidden.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    beside = path.parent / SCRATCH / path.name
    with storing(path):
        sweep(path.parent)
        try:
            beside.parent.mkdir()
            # In the order given: a resumed run writes metrics.jsonl and result.json from what it reads here.
            save_file(stored, beside, {FACTS_KEY: json.dumps({"format": FORMAT, **facts})})
            beside.chmod(0o644)  # safetensors gives its files to their owner alone
            publish(beside, path)
        except SafetensorError as error:  # it wraps the operating system's error into a text
            raise storage_error(path, OSError(_errno(str(error)), str(error))) from error
        finally:
            sweep(path.parent)


def sweep(folder: Path) -> None:
    """Remove what a kill amid `save` left in a run's folder.

    Safetensors writes through a file of a random name beside its target: it gets a folder that is known by its name.
    """
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)


def _errno(text: str) -> int:
    digits = text.rpartition("os error ")[2].split(")")[0]
    return int(digits) if digits.isdigit() else 0


def load(path: Path, needs: Iterable[str] = ()) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint.

    Args:
        path: of the file.
        needs: the facts that it must have.

    Returns:
        Tensors by name, on the CPU; the facts.

    Raises:
        CheckpointError: missing, truncated, foreign, or without one of those facts.
    """
    try:
        with safe_open(path, "pt") as file:
            facts = dict(json.loads((file.metadata() or {})[FACTS_KEY]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise CheckpointError(
            f"there is no checkpoint {path}", "Train one: labeldep pretrain, labeldep adversarial."
        ) from None
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise broken(path) from error
    if facts.pop("format", None) != FORMAT:
        raise CheckpointError(f"{path} is a checkpoint of another version of labeldep", _REMEDY)
    lacking = [name for name in needs if name not in facts]
    if lacking:
        raise CheckpointError(f"{path} is a checkpoint of another kind: it has no {', '.join(lacking)}", _REMEDY)
    return tensors, facts


def broken(path: Path) -> CheckpointError:
    """The error for a file that is cut off, or that another program wrote."""
    return CheckpointError(f"{path} is no labeldep checkpoint (truncated or foreign)", _REMEDY)


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of a checkpoint alone, without its tensors; none where the file is missing or broken."""
    try:
        with safe_open(path, "pt") as file:
            return dict(json.loads((file.metadata() or {})[FACTS_KEY]))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        return {}


def pack(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """A module's state under a prefix."""
    return {f"{prefix}.{name}": value for name, value in module.state_dict().items()}


def unpack(prefix: str, tensors: Mapping[str, Tensor], module: nn.Module, path: Path) -> None:
    """Load a module's state from under a prefix, strictly.

    Raises:
        CheckpointError: names or shapes do not fit.
    """
    state = {name[len(prefix) + 1 :]: value for name, value in tensors.items() if name.startswith(f"{prefix}.")}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        problem = str(error).splitlines()[-1].strip()
        raise CheckpointError(
            f"{path} does not fit this {prefix}: {problem}", "Name the run's own settings, or train a new run."
        ) from None


def pack_optimizer(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as flat tensors."""
    states = optimizer.state_dict()["state"]
    return {f"{prefix}.{index}.{name}": value for index, state in states.items() for name, value in state.items()}


def unpack_optimizer(prefix: str, tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    """Load what `pack_optimizer` gave; the learning rate and betas are the optimizer's own.

    A file holds tensors row by row; Adam's moments get the strides of their weights again.
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

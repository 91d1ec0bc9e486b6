"""`labeldep doctor`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from labeldep_cli.cli import flags, project_file
from labeldep_cli.cli.next_command import print_next
from labeldep_cli.cli.show import Terminal, print_json, print_line
from labeldep_cli.config import Workspace
from labeldep_cli.files import format_size

if TYPE_CHECKING:
    from labeldep_cli.pipelines.doctor import Checkup

_MARGIN = 11


def doctor(
    ctx: typer.Context,
    *,
    workspace: Workspace,
    json: flags.Json = False,
) -> None:
    """Report hardware, versions, weights, data sets and runs on this machine; warn about likely problems."""
    from labeldep_cli.pipelines.doctor import Warned
    from labeldep_cli.pipelines.doctor import doctor as run

    checkup = run(workspace, Terminal())
    file, faults = project_file.of_call(ctx), project_file.faults_of(ctx)
    checkup = replace(checkup, warnings=(*(Warned(fault.what, fault.remedy) for fault in faults), *checkup.warnings))
    if json:
        print_json({**checkup.to_json(), "project_file": file.to_json() if file.path else None})
        return
    _print("versions", [_versions(checkup.versions)])
    _print("extras", [_extra(name, packages) for name, packages in checkup.extras.items()])
    _print("device", _device(checkup))
    _print("threads", [_threads(checkup.threads)])
    _print("weights", [_weights(file) for file in checkup.weights])
    _print("data sets", [_dataset(row) for row in checkup.datasets])
    _print("caches", _caches(checkup.caches))
    _print("project", _project(file, bool(faults)))
    _print("runs", [_runs(checkup.runs)])
    _print("disk", _disks(checkup))
    for warning in checkup.warnings:
        print_line("")
        print_line(f"warning: {warning.what}")
        for line in warning.remedy.split("\n") if warning.remedy else ():
            print_line(f"         {line}")
    if not faults:
        print_next(ctx, "data" if file.path else "init")


def _print(title: str, lines: Iterable[str]) -> None:
    for k, line in enumerate(lines):
        print_line(f"{'' if k else title:{_MARGIN}}{line}")


def _size(n: int | None) -> str:
    return "?" if n is None else format_size(n)


def _versions(versions: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {version or 'is missing'}" for name, version in versions.items())


def _extra(name: str, packages: Mapping[str, str | None]) -> str:
    if None in packages.values():
        return f"{name}: not installed (pip install 'labeldep[{name}]')"
    return f"{name}: {_versions(packages)}"


def _device(checkup: Checkup) -> list[str]:
    gpus = [f"{gpu['name']}, {_size(gpu['free'])} of {_size(gpu['total'])} free" for gpu in checkup.device["gpus"]]
    memory = checkup.memory
    return [
        *(gpus or [f"no CUDA GPU that torch can use; CPU with {checkup.device['cpu']}"]),
        *(["Apple's GPU, which only --device mps takes"] if checkup.device["mps"] else []),
        f"RAM {_size(memory['available'])} of {_size(memory['total'])} free; "
        f"/dev/shm {_size(memory['shm_free'])} of {_size(memory['shm_total'])} free",
    ]


def _threads(threads: Mapping[str, Any]) -> str:
    quota = f" (of them {threads['quota']:g} at a time)" if threads["quota"] else ""
    omp = ", ".join(f"{name} {threads[name] or 'unset'}" for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"))
    return f"{threads['cores']} cores{quota}; torch {threads['torch']}, decoding processes {threads['decoding']}; {omp}"


def _weights(file: Mapping[str, Any]) -> str:
    name = file["backbone"] + (" (default)" if file["default"] else "")
    if file["on_disk"] is not None:
        return f"{name}: {file['path']}, {_size(file['on_disk'])}"
    return f"{name}: not on disk; when needed, {_size(file['published'])} are downloaded from {file['url']}"


def _dataset(row: Mapping[str, Any]) -> str:
    if row["embedded"]:
        return f"{row['name']}: comes with labeldep"
    if not row["lacking"]:
        return f"{row['name']}: on disk (labeldep data {row['name']} checks it)"
    if len(row["lacking"]) == row["needs"]:
        return f"{row['name']}: not on disk (labeldep data {row['name']} says how to get it)"
    return f"{row['name']}: lacks {', '.join(row['lacking'])}"


def _caches(caches: Mapping[str, Any]) -> list[str]:
    parts = [
        f"{len(caches[kind])} {kind}, {_size(sum(file['bytes'] for file in caches[kind]))}"
        for kind in ("finished", "unfinished")
    ]
    return [f"{caches['folder']}: {'; '.join(parts)}"]


def _project(file: project_file.ProjectFile, is_faulty: bool) -> list[str]:
    """The project file's path, then one line per table."""
    if file.path is None:
        return [f"no {project_file.NAME} here (labeldep init writes one)"]
    tables = {project_file.DEFAULTS: file.common, **file.own}
    lines = {table: ", ".join(f"{key} = {value}" for key, value in values.items()) for table, values in tables.items()}
    warning = " (with a fault: see the warning below)" if is_faulty else ""
    return [f"{file.path.absolute()}{warning}", *(f"[{table}] {values}" for table, values in lines.items() if values)]


def _runs(runs: Mapping[str, Any]) -> str:
    states = ", ".join(f"{runs[state]} {state}" for state in ("finished", "training", "unfinished"))
    return f"{runs['folder']}: {states}; {_size(runs['bytes'])} (labeldep runs)"


def _disks(checkup: Checkup) -> list[str]:
    """One line per disk."""
    folders: dict[str, list[str]] = {}
    for disk in checkup.disks:
        room = f"{_size(disk['free'])} of {_size(disk['total'])} free"
        folders.setdefault(room, []).append(f"{disk['what']} ({disk['folder']})")
    return [f"{room}: {', '.join(places)}" for room, places in folders.items()]

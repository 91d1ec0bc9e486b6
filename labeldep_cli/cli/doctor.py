"""`labeldep doctor`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from labeldep_cli.cli import flags, project_file
from labeldep_cli.cli.next_command import say_next
from labeldep_cli.cli.show import Terminal, print_json
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
    """Tell what this machine has, what lies on its disks, what would be downloaded, and what is amiss."""
    from labeldep_cli.pipelines.doctor import Warned
    from labeldep_cli.pipelines.doctor import doctor as run

    found = run(workspace, Terminal())
    file, faults = project_file.of_call(ctx), project_file.faults_of(ctx)
    found = replace(found, warnings=(*(Warned(fault.what, fault.remedy) for fault in faults), *found.warnings))
    if json:
        print_json({**found.to_json(), "project_file": file.to_json() if file.path else None})
        return
    _print("versions", [_versions(found.versions)])
    _print("extras", [_extra(name, packages) for name, packages in found.extras.items()])
    _print("device", _device(found))
    _print("threads", [_threads(found.threads)])
    _print("weights", [_weights(file) for file in found.weights])
    _print("data sets", [_dataset(row) for row in found.datasets])
    _print("caches", _caches(found.caches))
    _print("project", _project(file, bool(faults)))
    _print("runs", [_runs(found.runs)])
    _print("disk", _disks(found))
    for warned in found.warnings:
        typer.echo("\n         ".join([f"\nwarning: {warned.what}", *warned.remedy.splitlines()]))
    if not faults:
        say_next(ctx, "data" if file.path else "init")


def _print(title: str, lines: Iterable[str]) -> None:
    for k, line in enumerate(lines):
        typer.echo(f"{'' if k else title:{_MARGIN}}{line}")


def _size(n: int | None) -> str:
    return "?" if n is None else format_size(n)


def _versions(versions: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {version or 'is missing'}" for name, version in versions.items())


def _extra(name: str, packages: Mapping[str, str | None]) -> str:
    if None in packages.values():
        return f"{name}: not installed (pip install 'labeldep[{name}]')"
    return f"{name}: {_versions(packages)}"


def _device(found: Checkup) -> list[str]:
    gpus = [f"{gpu['name']}, {_size(gpu['free'])} of {_size(gpu['total'])} free" for gpu in found.device["gpus"]]
    memory = found.memory
    return [
        *(gpus or [f"no GPU that torch can use; CPU with {found.device['cpu']}"]),
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
        return f"{row['name']}: laid out (labeldep data {row['name']} checks it)"
    if len(row["lacking"]) == row["needs"]:
        return f"{row['name']}: not there (labeldep data {row['name']} tells how to get it)"
    return f"{row['name']}: lacks {', '.join(row['lacking'])}"


def _caches(caches: Mapping[str, Any]) -> list[str]:
    told = [
        f"{len(caches[kind])} {kind}, {_size(sum(file['bytes'] for file in caches[kind]))}"
        for kind in ("finished", "unfinished")
    ]
    return [f"{caches['folder']}: {'; '.join(told)}"]


def _project(file: project_file.ProjectFile, is_faulty: bool) -> list[str]:
    """The project file, and a line a table."""
    if file.path is None:
        return [f"no {project_file.NAME} here (labeldep init writes one)"]
    tables = {project_file.DEFAULTS: file.common, **file.own}
    said = {table: ", ".join(f"{key} = {value}" for key, value in values.items()) for table, values in tables.items()}
    warning = " (with a fault: see the warning below)" if is_faulty else ""
    return [f"{file.path.absolute()}{warning}", *(f"[{table}] {values}" for table, values in said.items() if values)]


def _runs(runs: Mapping[str, Any]) -> str:
    states = ", ".join(f"{runs[state]} {state}" for state in ("finished", "training", "unfinished"))
    return f"{runs['folder']}: {states}; {_size(runs['bytes'])} (labeldep runs)"


def _disks(found: Checkup) -> list[str]:
    """A line a disk."""
    told: dict[str, list[str]] = {}
    for disk in found.disks:
        room = f"{_size(disk['free'])} of {_size(disk['total'])} free"
        told.setdefault(room, []).append(f"{disk['what']} ({disk['folder']})")
    return [f"{room}: {', '.join(places)}" for room, places in told.items()]

"""`labeldep reproduce`: the paper's tables, with controls, for any data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labeldep_cli.config import DEFAULT_BACKBONE, DEFAULT_WEIGHTS, Machine, ReproduceConfig, Source, Workspace
from labeldep_cli.datasets import registry
from labeldep_cli.datasets.scenes import files as scenes_files
from labeldep_cli.datasets.split import Dataset, Skipped
from labeldep_cli.errors import BackboneError
from labeldep_cli.features.images import UnreadableImage
from labeldep_cli.files import lock, make_folder, write_json, write_text
from labeldep_cli.models.backbones import find_backbone
from labeldep_cli.progress import DeduplicatingReporter, Reporter
from labeldep_cli.projects.open import open_project
from labeldep_cli.projects.project import Project
from labeldep_cli.reports import reproduction
from labeldep_cli.reproduction import gallery
from labeldep_cli.reproduction.gallery import Gallery
from labeldep_cli.reproduction.matrix import BASELINE, WGAN, Matrix, Training, build, table_numbers
from labeldep_cli.reproduction.plan import Plan
from labeldep_cli.reproduction.plan import plan as estimate
from labeldep_cli.reproduction.record import claim
from labeldep_cli.reproduction.scored import Bench, Scored
from labeldep_cli.reproduction.tables import table

Projects = Mapping[str | None, Project]
"""Data set and backbone, by the backbone's name; rivals and Table 3 use the first."""

_PAPERS = {1: ("coco", None), 2: ("nuswide", None), 3: ("coco", DEFAULT_BACKBONE)}
"""The paper's data set of each table, and its backbone if the table has only one."""


@dataclass(frozen=True)
class Reproduction:
    """The result of a finished matrix.

    Attributes:
        out: the folder of runs, tables and gallery.
        tables: the records, by number.
        gallery: None if there are no images, or if all label sets agree.
        skipped: rows without a readable image, among the images that this call read itself.
    """

    out: Path
    tables: Mapping[int, Mapping[str, Any]]
    gallery: Gallery | None
    skipped: tuple[Skipped, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that were written, except those of the runs."""
        written = [self.out / f"table{number}{suffix}" for number in self.tables for suffix in (".md", ".tex", ".json")]
        return (*written, *([self.out / gallery.FILE] if self.gallery else []))

    def to_json(self) -> dict[str, Any]:
        """One JSON object with the tables' records by number."""
        return {
            "out": str(self.out),
            "tables": {str(number): record for number, record in self.tables.items()},
            "gallery": self.gallery and self.gallery.to_json(),
            "files": [str(path) for path in self.files],
            "skipped": [skip.to_json() for skip in self.skipped],
        }


def plan(
    workspace: Workspace, source: Source, machine: Machine, config: ReproduceConfig, out: Path, reporter: Reporter
) -> Plan:
    """Estimate what `reproduce` would do and cost, with the same arguments. Nothing is written."""
    shape = scenes_files.undrawn(workspace.data_dir) if source.dataset == "scenes" else None
    matrix, projects = _prepare(workspace, source, machine, config, DeduplicatingReporter(reporter), shape)
    return estimate(matrix, projects, config, out)


def reproduce(
    workspace: Workspace, source: Source, machine: Machine, config: ReproduceConfig, out: Path, reporter: Reporter
) -> Reproduction:
    """Train and score every row, and write the tables. Finished runs in the folder are used as they are.

    Args:
        workspace: the folders of data and caches; the runs are in `out`.
        source: the data set; its backbone is ignored.
        machine: the device to compute on.
        config: rows and settings.
        out: the folder for runs, tables and gallery.
        reporter: takes notes and progress.

    Raises:
        LabeldepError: a table does not fit the data set, the folder was begun with other settings, or training fails.
    """
    reporter = DeduplicatingReporter(reporter)
    matrix, projects = _prepare(workspace, source, machine, config, reporter)
    first = next(iter(projects.values()))
    for title, reason in matrix.left_out.items():
        reporter.note(f"left out: {title}: {reason}")
    make_folder(out)
    with lock(out / ".lock", str(out)):
        claim(out, config, first)
        bench = Bench(out, config, first, reporter)
        results = _run(bench, matrix, source)
        records = _write_tables(matrix, results, source, out)
        chosen = _gallery(matrix, results, first, out, reporter)
    return Reproduction(out, records, chosen, tuple(bench.skipped.values()))


def _prepare(
    workspace: Workspace,
    source: Source,
    machine: Machine,
    config: ReproduceConfig,
    reporter: Reporter,
    dataset: Dataset | None = None,
) -> tuple[Matrix, Projects]:
    """Build the matrix and open its data. Wrong arguments are reported before data are read, where possible."""
    table_numbers(source.dataset, config.tables)
    names = tuple(find_backbone(name).name for name in dict.fromkeys(config.backbones))
    dataset = dataset or registry.load_source(source, workspace.data_dir, reporter)
    if dataset.has_features and names:
        raise BackboneError(f"{source.dataset} holds ready features: they take no backbone", "Leave --backbones out.")
    if not dataset.has_features:
        names = names or (dataset.backbone or DEFAULT_BACKBONE,)
    source = replace(source, weights=source.weights or DEFAULT_WEIGHTS)  # a table's backbones are chosen, not inherited
    projects: dict[str | None, Project] = {
        name: open_project(workspace, replace(source, backbone=name), machine, reporter, dataset=dataset)
        for name in (names or (None,))
    }
    files = [project.weights.path for project in projects.values() if project.weights and not project.weights.url]
    if len(names) > 1 and len(set(files)) < len(files) and None not in files:
        raise BackboneError(
            f"{source.weights} holds the weights of one backbone, but {len(names)} are requested",
            "Run the command once per backbone, each with its own --weights; --out may be the same folder.",
        )
    if config.full:
        _ = next(iter(projects.values())).images
    return build(source.dataset, names, dataset.has_features, config), projects


def _run(bench: Bench, matrix: Matrix, source: Source) -> dict[str, list[Scored]]:
    """Train and score all networks, seed by seed, so that complete tables exist after the first seed."""
    results: dict[str, list[Scored]] = {training.key: [] for training in matrix.trainings}
    seeds = range(bench.config.seeds)
    compared = {model.slug for model in matrix.models}
    number, total = 0, len(matrix.trainings) * len(seeds)
    for seed in seeds:
        trained = False
        for training in matrix.trainings:
            number += 1
            if not bench.finished(training, seed):
                bench.reporter.note(f"[{number}/{total}] {training.title}, seed {seed}")
                trained = True
            bench.train(training, seed)
            results[training.key].append(bench.score(training, seed, training.model.slug in compared))
        if trained and seed != seeds[-1]:
            _write_tables(matrix, results, source, bench.out)
            bench.reporter.note(f"the tables for the seeds finished so far are in {bench.out}")
    return results


def _write_tables(
    matrix: Matrix, results: Mapping[str, list[Scored]], source: Source, out: Path
) -> dict[int, dict[str, Any]]:
    records = {}
    for number in matrix.tables:
        dataset, backbone = _PAPERS[number]
        beside_paper = source.dataset == dataset and backbone in (None, matrix.models[0].backbone)
        record = table(number, matrix, results, out, beside_paper)
        write_json(out / f"table{number}.json", record)
        write_text(out / f"table{number}.md", reproduction.markdown(record))
        write_text(out / f"table{number}.tex", reproduction.latex(record))
        records[number] = record
    return records


def _gallery(
    matrix: Matrix, results: Mapping[str, list[Scored]], project: Project, out: Path, reporter: Reporter
) -> Gallery | None:
    """Write the gallery: images that the first model labels differently with WGAN-gp, for the first seed."""
    if project.row is None:
        reporter.note("no gallery: the data set holds ready features, no images")
        return None
    baseline, other = (Training(matrix.models[0], stage) for stage in (BASELINE, WGAN))
    chosen = gallery.choose(
        project.dataset.split("test"),
        (baseline.title, results[baseline.key][0]),
        (other.title, results[other.key][0]),
    )
    if not chosen.items:
        reporter.note(f"no gallery: {baseline.title} and {other.title} label all images alike")
        return None
    try:
        chosen.write(out, project.dataset.name, project.rules)
    except UnreadableImage as unreadable:
        reporter.note(f"no gallery: {unreadable.file}: {unreadable.reason.text}")
        return None
    write_json(out / "gallery.json", chosen.to_json())
    return chosen

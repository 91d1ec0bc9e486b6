"""Reserve a folder for a run: check which run it contains, and whether that run is finished."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from glob import escape
from itertools import count
from pathlib import Path
from typing import Any

from labeldep_cli.config import DEFAULT_HEAD, READING, AdversarialConfig, Source, changed
from labeldep_cli.errors import CheckpointError
from labeldep_cli.files import atomic_write, sha256, storing, write_json
from labeldep_cli.inputs.batches import Blocks
from labeldep_cli.progress import Reporter
from labeldep_cli.runs import checkpoint
from labeldep_cli.runs.changes import changes, in_words
from labeldep_cli.runs.layout import BEST, CONFIG, LAST, METRICS, OWN, RESULT, ROWS
from labeldep_cli.runs.listing import started_of
from labeldep_cli.runs.names import KnownRun, known_runs
from labeldep_cli.runs.record import CLOCK, LABEL_REDUCTION_BEFORE, read_config, result_of
from labeldep_cli.runs.rows import Rows, read_rows, save_rows
from labeldep_cli.schemas import sealed


@dataclass(frozen=True)
class Job:
    """Where and how a run is written. None of this is part of the run's identity.

    Attributes:
        out: folder of the run; None for the default folder.
        fresh: empty the folder first.
        tensorboard: also write TensorBoard events.
        keep: with `fresh`, keep a finished run under another name. False for runs that a command trains for its own
            use.
    """

    out: Path | None = None
    fresh: bool = False
    tensorboard: bool = False
    keep: bool = True


def clear_folder(folder: Path, keep: bool, reporter: Reporter) -> None:
    """Empty a folder for a new run. If `keep` is set, a finished run in it is kept under a dated name.

    Raises:
        StorageError: the folder is not writable.
    """
    kept = _move_aside(folder) if keep else None
    if kept:
        compare = shlex.join(["labeldep", "compare", str(kept), str(folder)])
        reporter.note(f"the finished run {folder} is kept as {kept}; when the new one is done: {compare}")
        started = [run.name for run in known_runs(folder.parent) if _start_of(run) == str(folder.absolute())]
        if started:
            start = shlex.quote(str(kept))
            reporter.note(f"{', '.join(started)} started from it: the commands that train them take --from {start}")
    with storing(folder):
        for name in OWN:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _move_aside(folder: Path) -> Path | None:
    """Move a finished run's files into a new folder next to its own, named after the time when the run was started.

    The new folder appears with copies of the small files in it; then `best` moves, then the rest. So if a kill
    interrupts the move, the folder that has `best` is always complete as a finished run, and a second call does the
    rest.

    Returns:
        The new folder; None if the run is not finished, or its config.json is missing or broken, because no command can
        use such a run.
    """
    try:
        record = read_config(folder)
    except CheckpointError:
        return None
    base = folder.resolve() if folder.name in ("", "..") else folder
    dated = f"{base.name}-{started_of(folder, record):%Y-%m-%dT%H%M}"
    names = (dated if number == 1 else f"{dated}-{number}" for number in count(1))
    kept = next(path for path in map(base.with_name, names) if not path.exists() or _is_begun(path, folder))
    if not kept.exists():
        if not _is_finished(folder):
            return None
        _copy_small_files(folder, kept)
    with storing(kept):
        for name in (BEST, *(name for name in OWN if not (kept / name).exists() and name != BEST)):
            if (folder / name).exists():
                shutil.move(folder / name, kept / name)
    return kept


def _is_begun(kept: Path, folder: Path) -> bool:
    """Whether a kill interrupted the move of a folder's run to `kept`: one of the two has `best`, both the rest."""
    try:
        same = (kept / CONFIG).read_bytes() == (folder / CONFIG).read_bytes()
    except OSError:
        return False
    return same and _is_finished(kept) != _is_finished(folder)


def _copy_small_files(folder: Path, kept: Path) -> None:
    """Create `kept`, at once with copies of a run's files, except for the checkpoints and the events."""
    copies = kept.with_name(f".{kept.name}.writing")
    with storing(kept):
        shutil.rmtree(copies, ignore_errors=True)  # of a kill
        copies.mkdir()
        for name in (METRICS, RESULT, ROWS, CONFIG):  # without the last one, no command takes it for a run
            if (folder / name).exists():
                with atomic_write(copies / name) as temporary:
                    shutil.copyfile(folder / name, temporary)
        copies.rename(kept)


def _start_of(run: KnownRun) -> str | None:
    return (run.record.get("start") or {}).get("run")


def _is_finished(folder: Path) -> bool:
    """Whether a run has its result, and it is that of its checkpoints; another one is damaged, and made again."""
    result, best, last = result_of(folder), checkpoint.read_facts(folder / BEST), checkpoint.read_facts(folder / LAST)
    if result is None or not best:
        return False
    known = {**best, "best_step": best.get("step"), "beta": best.get("beta")}
    if last:
        known |= {"steps": last.get("step"), "stopped_early": last.get("stopped")}
    return all(known.get(name, value) == value for name, value in result.items())


def claim(folder: Path, record: dict[str, Any], reporter: Reporter, rows: Callable[[], Rows] | None = None) -> bool:
    """Reserve a folder for a run, or check that it already contains this run.

    Args:
        folder: folder of the run.
        record: the run's config.json.
        reporter: receives notes.
        rows: gives the rows and labels that the run is trained on; they are stored too. None to store none.

    Returns:
        Whether the run is finished. If not, training starts or continues.

    Raises:
        CheckpointError: the folder contains a run with other settings; names them.
    """
    if (folder / CONFIG).exists():
        other = read_config(folder)
        differences = changed(_identity(record), _identity(other))
        if differences:
            remedy = "Train into another folder (--out FOLDER), or start again in this one (--fresh)."
            kept = _kept_start(other)
            if kept and not changed(_identity({**record, "start": other["start"]}), _identity(other)):
                remedy = f"It started from {kept}: --from {shlex.quote(str(kept))}\n{remedy}"
            words = _with_rows_in_words(differences, folder, rows)
            raise CheckpointError(f"{folder} holds a run with other settings: {'; '.join(words)}", remedy)
        if rows is not None and not (folder / ROWS).exists():  # a run of an older version, or killed before saving
            save_rows(folder, rows())
        if _is_finished(folder):
            reporter.note(f"{folder} is finished already; its result:")
            return True
    elif any((folder / name).exists() for name in (LAST, BEST)):
        raise CheckpointError(
            f"{folder} holds checkpoints but no {CONFIG}",
            "Train into another folder (--out), or remove them (--fresh).",
        )
    else:
        write_json(folder / CONFIG, sealed(record, CLOCK))
        if rows is not None:
            save_rows(folder, rows())
    return False


def _kept_start(record: Mapping[str, Any]) -> Path | None:
    """The folder of the run that this one started from, if `--fresh` has moved it aside since."""
    if not record["start"]:
        return None
    run = Path(record["start"]["run"])
    kept = (path for path in sorted(run.parent.glob(f"{escape(run.name)}-*")) if (path / BEST).is_file())
    return next((path for path in kept if sha256(path / BEST) == record["start"]["sha256"]), None)


def _with_rows_in_words(differences: list[str], folder: Path, rows: Callable[[], Rows] | None) -> list[str]:
    """Replace the difference of the rows' fingerprints by words, if the run has stored which rows it was trained on."""
    kept = None if rows is None else read_rows(folder)
    if rows is None or kept is None:
        return differences
    now = rows()
    parts = [in_words(changes(kept, now)), _label_names(kept.space.names, now.space.names)]
    words = "; ".join(part for part in parts if part) or "rows: another order"
    return [f"the data have changed ({words})" if text.startswith(f"{_ROWS} ") else text for text in differences]


def _label_names(before: tuple[str, ...], now: tuple[str, ...]) -> str:
    """How the names of the labels differ, in words; empty if they do not differ."""
    if set(before) == set(now):
        return "" if before == now else "labels: another order"
    parts = (("new", set(now) - set(before)), ("gone", set(before) - set(now)))
    return "labels: " + ", ".join(f"{len(names)} {kind}" for kind, names in parts if names)


def existing_record(folder: Path) -> dict[str, Any]:
    """The config.json of the run in this folder, unfinished or finished; empty if there is no run."""
    return read_config(folder) if (folder / CONFIG).exists() else {}


def blocks_of(record: Mapping[str, Any]) -> dict[str, Blocks]:
    """The blocks in which a run reads its training rows, by split; empty if it keeps all rows in memory."""
    blocks = record.get("blocks")
    return {"train": Blocks(**blocks)} if blocks else {}


_ROWS = "rows"

_LEARNT_FROM = ("train", "val")
"""The splits that a run depends on: weights are fitted to train, the evaluation to keep is chosen on val."""

_LEFT_OUT = ("dataset", "weights", "checkpoint_activations")
"""Settings that are not part of a run's identity. Data set and weights are compared by fingerprint, so the same files
under another path are the same. Checkpointing of activations changes no number, so a run may continue with it after
memory ran out."""


_BEFORE = {"label_reduction": LABEL_REDUCTION_BEFORE, "max_gradient_norm": 0.0, "critic_weight_decay": 0.0}
"""Values of these settings in runs of older versions, which did not have them."""

_READING = {name: getattr(Source, name) for name in READING}
"""The defaults of settings on how a data set is read; a run of an older version may lack some."""


def _identity(record: Mapping[str, Any]) -> dict[str, Any]:
    """What identifies a run: settings and fingerprints, without paths, versions, device and time."""
    # The record of an older version lacks newer settings. It was trained with their defaults, except for _BEFORE.
    known = {**_READING, **AdversarialConfig(head=DEFAULT_HEAD).settings(), **_BEFORE, **record["settings"]}
    settings = {f"--{name.replace('_', '-')}": value for name, value in known.items() if name not in _LEFT_OUT}
    weights, start, blocks = record["weights"], record["start"], record.get("blocks")
    return {
        **settings,
        "command": record["command"],
        "row order (--max-memory)": Blocks(**blocks).description if blocks else "all rows at once",
        "data set": record["dataset"]["name"],
        _ROWS: {name: value[:12] for name, value in record["dataset"]["fingerprints"].items() if name in _LEARNT_FROM},
        "weights SHA-256": weights and str(weights["sha256"])[:12],
        "start": start and start["sha256"][:12],
    }

"""What 200 decisions in `labeldep review` are worth: labels are flipped, audited, and reviewed by a scripted browser.

A share of the label cells of a table is flipped at random, seeded, in all splits. `audit` ranks the images. Chromium
goes through the first of them by keyboard, as a person would who knows the true labels: `a` where the suggestion is
right, `r` where the written labels are, else the editor. The command is killed once on the way and started again. Then
the classifier is trained again. All classifiers are scored against the true labels of the test split: `eval --dataset`
with the table before the flips, whose rows are the same. So no score profits from corrected test labels.

The data set is a folder with a labels.csv in multi-hot form. It needs playwright and a Chromium.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.show import Table, show
from labeldep_cli.datasets.decision_file import FILE, read
from labeldep_cli.errors import LabeldepError

WORK = Path("runs/review-benchmark")
STAGES = ("before", "after the decisions", "all flips undone")
_SHOT = {1280: 800, 390: 844}


def command(
    dataset: Annotated[Path, typer.Argument(help="Folder with images and a multi-hot labels.csv.")],
    backbone: Annotated[str, typer.Option(help="As for audit.")] = "squeezenet1_1",
    weights: Annotated[str, typer.Option(help="Of the backbone.")] = "default",
    work: Annotated[Path, typer.Option(help="Folder for the copy of the data set, its features and runs.")] = WORK,
    noise: Annotated[float, typer.Option(min=0.0, max=0.5, help="Share of cells that are flipped.")] = 0.05,
    decisions: Annotated[int, typer.Option(min=2, help="Number of decisions.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the flips and the networks.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Scores before and after a review in a browser, and with all flipped labels undone."""
    found = run(dataset, work, (backbone, weights), noise, decisions, seed)
    scores = [(stage, *(f"{found['scores'][stage][name]:.1f}" for name in ("mAP", "exact_match"))) for stage in STAGES]
    facts = [(name.replace("_", " "), _text(value)) for name, value in found.items() if name != "scores"]
    tables = [
        Table("true labels of the test split", ("labels", "mAP", "exact match"), scores),
        Table("", ("", ""), facts),
    ]
    show(found, tables, json)


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Bench:
    """A copy of a data set with flipped labels, and the commands on it.

    Attributes:
        folder: folder of the copy.
        flags: backbone and weights.
        names: the labels.
        truth: by path, the labels of an image before the flips.
    """

    folder: Path
    flags: tuple[str, ...]
    names: tuple[str, ...]
    truth: dict[str, frozenset[str]]

    @property
    def flipped(self) -> Path:
        """The table with flipped labels."""
        return self.folder / "data" / "labels.csv"

    @property
    def true(self) -> Path:
        """The table without."""
        return self.folder / "data" / "true.csv"

    def line(self, *words: object) -> list[str]:
        """A command line of labeldep."""
        return [sys.executable, "-m", "labeldep_cli", *map(str, words)]

    def call(self, *words: object) -> dict[str, Any]:
        """Run a command with --json."""
        done = subprocess.run(self.line(*words, "--json"), env=self.env, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise LabeldepError(f"{' '.join(map(str, words))} ended with {done.returncode}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    @property
    def env(self) -> dict[str, str]:
        """The environment of the commands."""
        own = {"LABELDEP_DATA": self.folder / "features-and-data", "LABELDEP_RUNS": self.folder / "runs"}
        return {**os.environ, **{key: str(value.absolute()) for key, value in own.items()}}

    def score(self, stage: str, table: Path, seed: int) -> dict[str, Any]:
        """Train on a table, and score on the true test labels."""
        out = self.folder / "runs" / stage.replace(" ", "-")
        self.call("pretrain", "--dataset", table, *self.flags, "--seed", seed, "--out", out)
        return self.call("eval", out, "--dataset", self.true)


def run(dataset: Path, work: Path, encoder: tuple[str, str], noise: float, decisions: int, seed: int) -> dict[str, Any]:
    """Flip, audit, review, and score three times.

    Returns:
        `scores` of each of STAGES; how many flips there were and were undone; the times of decisions and of training.
    """
    bench, flips = _flipped(dataset, work, encoder, noise, seed)
    bench.call("extract", "--dataset", bench.flipped, *bench.flags)
    scores = {"before": bench.score("before", bench.flipped, seed)}
    bench.call("audit", bench.flipped, *bench.flags, "--seed", seed, "--out", work / "audit")
    reviewed = _review(bench, work / "audit", decisions)
    start = time.perf_counter()
    scores["after the decisions"] = bench.score("after the decisions", bench.flipped, seed)
    seconds = time.perf_counter() - start
    scores["all flips undone"] = bench.score("all flips undone", bench.true, seed)
    told = bench.call("data", bench.flipped)["corrections"]
    return {
        "flipped_labels": flips,
        "decided_images": told["decided"],
        "corrected_labels": told["labels"],
        "labels_still_wrong": _n_wrong(bench),
        **reviewed,
        "seconds_to_new_scores": seconds,
        "scores": scores,
    }


def _flipped(dataset: Path, work: Path, encoder: tuple[str, str], noise: float, seed: int) -> tuple[Bench, int]:
    """Copy a data set, flip labels of the copy, and keep the true table beside it."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(dataset, work / "data")
    with (work / "data" / "labels.csv").open(newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    first = 2 if header[1] == "split" else 1
    names = tuple(header[first:])
    y = np.array([row[first:] for row in rows], dtype=np.int8)
    truth = {row[0]: frozenset(np.array(names)[y[k] == 1].tolist()) for k, row in enumerate(rows)}
    (work / "data" / "labels.csv").rename(work / "data" / "true.csv")
    wrong = np.random.default_rng([seed, 1]).random(y.shape) < noise
    with (work / "data" / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(header)
        table.writerows([*row[:first], *(y[k] ^ wrong[k]).tolist()] for k, row in enumerate(rows))
    flags = ("--backbone", encoder[0], "--weights", encoder[1])
    return Bench(work, flags, names, truth), int(wrong.sum())


def _n_wrong(bench: Bench) -> int:
    """The number of labels that differ from the true ones, with corrections applied."""
    from labeldep_cli.config import Source
    from labeldep_cli.datasets import registry
    from labeldep_cli.progress import SilentReporter

    splits = registry.load_source(Source(str(bench.flipped)), bench.folder, SilentReporter()).splits.values()
    rows = ((split.paths[row], split.space.decode(split.labels[row])) for split in splits for row in range(len(split)))
    return sum(len(bench.truth[path] ^ set(labels)) for path, labels in rows)


def _review(bench: Bench, audit: Path, decisions: int) -> dict[str, Any]:
    """Go through the first images of an audit by keyboard; the command is killed half-way."""
    from playwright.sync_api import sync_playwright

    suggested = {}
    for card in json.loads((audit / "audit.json").read_text(encoding="utf-8"))["cards"]:
        wrong = {suspect["label"] for suspect in card["suspects"]}
        suggested[card["path"]] = (frozenset(card["written"]), frozenset(card["written"]) ^ wrong)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    keys: list[str] = []
    waits: list[float] = []
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for last in (decisions // 2, decisions):
            process, url = _serve(bench, audit)
            tab = browser.new_page(viewport={"width": 1280, "height": _SHOT[1280]})
            tab.goto(url)
            tab.wait_for_selector("#picture img")
            if not keys:
                _shots(browser, url, bench.folder)
            while len(keys) < last:
                path = tab.text_content("#name bdi") or ""
                keys.append(_decide(tab, *suggested[path], bench.truth[path]))
                start = time.perf_counter()
                tab.wait_for_selector(f'#picture img:not([alt="{path}"])')
                tab.evaluate("document.querySelector('#picture img').decode()")
                waits.append(1000 * (time.perf_counter() - start))
            while last == decisions and _n_written(bench) < decisions:
                tab.wait_for_timeout(20)
            process.send_signal(signal.SIGKILL if last < decisions else signal.SIGTERM)
            process.wait()
            tab.close()
            del keys[_n_written(bench) :]  # what the kill came before is decided again
        browser.close()
    return {
        "decisions": len(keys),
        **{f"decided_by_{key}": keys.count(key) for key in "are"},
        "milliseconds_to_the_next_image": median(waits),
        "milliseconds_at_most": max(waits),
    }


def _n_written(bench: Bench) -> int:
    """The number of decisions on the disk."""
    return len(read(bench.flipped.with_name(FILE)))


def _serve(bench: Bench, audit: Path) -> tuple[subprocess.Popen[str], str]:
    """Start `labeldep review`; the process and the address of its page."""
    words = bench.line("review", audit, "--no-browser", "--who", "script")
    process = subprocess.Popen(words, env=bench.env, stdout=subprocess.PIPE, text=True)
    for line in process.stdout or ():
        if "http://" in line:
            return process, line.split()[-1]
    raise LabeldepError("labeldep review did not start")


def _decide(tab: Any, written: frozenset[str], suggested: frozenset[str], truth: frozenset[str]) -> str:  # noqa: ANN401
    """Decide on the image that is shown; the first key of the decision."""
    key = "a" if suggested == truth else "r" if written == truth else "e"
    tab.keyboard.press(key)
    if key == "e":
        for label in sorted(written ^ truth):
            tab.keyboard.type(label)
            tab.keyboard.press("Enter")
        tab.keyboard.press("Enter")
    return key


def _shots(browser: Any, url: str, folder: Path) -> None:  # noqa: ANN401
    """Pictures of the page on a wide and on a narrow screen."""
    for width, height in _SHOT.items():
        tab = browser.new_page(viewport={"width": width, "height": height})
        tab.goto(url)
        tab.wait_for_selector("#picture img")
        tab.evaluate("document.querySelector('#picture img').decode()")
        tab.screenshot(path=str(folder / f"review-{width}.png"))
        tab.close()

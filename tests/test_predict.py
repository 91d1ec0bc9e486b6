"""`labeldep predict`: its formats, its copies, paths from a pipe, and the mode that stays."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import draw_image
from PIL import Image
from sandbox import Sandbox, make_table, only
from typer.testing import CliRunner

from labeldep_cli.cli import app
from labeldep_cli.cli import show as cli_show
from labeldep_cli.config import DecisionConfig, Machine, RunWorkspace
from labeldep_cli.datasets.split import Skipped
from labeldep_cli.features.decode import Decoded
from labeldep_cli.features.framing import Framing
from labeldep_cli.features.images import read_image
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.features.reasons import Reason
from labeldep_cli.labelling import paths as path_room
from labeldep_cli.labelling.copies import Copies
from labeldep_cli.labelling.labeller import Labelled
from labeldep_cli.labelling.paths import BATCH, as_they_come, expand
from labeldep_cli.labelling.prediction import Prediction, label, prediction_of
from labeldep_cli.labelling.serve import threads_for_one
from labeldep_cli.pipelines.predict import predict
from labeldep_cli.progress import SilentReporter
from labeldep_cli.reports.annotate import LONGEST, annotate
from labeldep_cli.runs import checkpoint

ROOT = Path(__file__).parents[1]
PATIENCE = 60.0


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A workspace with a run whose labels lie on both sides of the threshold."""
    sandbox = Sandbox(tmp_path_factory.mktemp("place"))
    make_table(sandbox.table.parent, rows=40)
    words = ("--backbone", "squeezenet1_1", "--weights", "none", "--critic", "nce", "--freeze-generator")
    result = sandbox.run("adversarial", "--dataset", sandbox.table, *words, "--steps", 4, "--workers", 0)
    assert result.exit_code == 0, result.stderr
    return sandbox


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three images, of a text that is called an image, and of a folder with one more."""
    folder = tmp_path / "photos"
    for k, name in enumerate(("a.png", "b.jpg", "deep/a.png", "z.bmp")):
        draw_image(folder / name, k)
    (folder / "c.jpg").write_text("no image")
    return folder


def records(sandbox: Sandbox, *words: object, code: int = 0) -> list[dict[str, object]]:
    result = sandbox.run("predict", *words, "--json", "--workers", 0)
    assert result.exit_code == code, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


# Formats


@pytest.mark.parametrize("decided", [(), ("--top-k", 2), ("--threshold", 0), ("--decision", "rerank")])
def test_every_format_says_the_same(sandbox: Sandbox, photos: Path, decided: tuple[object, ...]) -> None:
    told = records(sandbox, photos, *decided, code=3)
    assert [(Path(str(one["path"])).relative_to(photos).as_posix(), one.get("skipped")) for one in told] == [
        ("a.png", None),
        ("b.jpg", None),
        ("c.jpg", "not an image"),
        ("deep/a.png", None),
        ("z.bmp", None),
    ]
    confidence = {one["path"]: one["confidence"] for one in told if "confidence" in one}
    assert len(confidence) == 4 and all(0 <= p <= 1 for p in confidence.values())
    expected = {one["path"]: [(x["label"], x["probability"]) for x in one.get("labels", ())] for one in told}
    if decided[:1] == ("--threshold",):
        assert all(len(labels) == 3 for path, labels in expected.items() if not path.endswith("c.jpg"))

    asked = ("predict", photos, *decided, "--workers", 0)
    rows = list(csv.DictReader(io.StringIO(sandbox.run(*asked, "--format", "csv").stdout)))
    assert [(row["path"], row["skipped"]) for row in rows] == [(one["path"], one.get("skipped", "")) for one in told]
    for row in rows:
        labels = zip(
            filter(None, row["labels"].split(";")),
            map(float, filter(None, row["probabilities"].split(";"))),
            strict=True,
        )
        assert list(labels) == expected[row["path"]]
        assert row["confidence"] == ("" if row["skipped"] else repr(confidence[row["path"]]))

    lines = sandbox.run(*asked).stdout.splitlines()
    good = {path: labels for path, labels in expected.items() if not path.endswith("c.jpg")}
    assert lines == [
        f"{path}: {', '.join(f'{name} {p:.2f}' for name, p in labels) or '(no label)'}; set {confidence[path]:.2f}"
        for path, labels in good.items()
    ]

    result = sandbox.run(*asked, "--format", "table", "--out", photos.parent / "t.txt")
    assert result.exit_code == 3 and result.stdout == ""
    table = (photos.parent / "t.txt").read_text()
    assert [line.split()[0] for line in table.splitlines() if str(photos) in line] == list(good)
    assert all(f"{name} {p:.2f}" in table for labels in good.values() for name, p in labels)


def test_out_is_written_whole_in_the_form_of_its_ending(sandbox: Sandbox, photos: Path, tmp_path: Path) -> None:
    for name, begin in (("x.csv", "path,labels"), ("x.jsonl", '{"path"'), ("x.txt", f"{photos}/a.png: ")):
        result = sandbox.run("predict", photos, "--out", tmp_path / "new" / name, "--workers", 0)
        assert (result.exit_code, result.stdout) == (3, "")
        assert (tmp_path / "new" / name).read_text().startswith(begin)
    result = sandbox.run("predict", photos / "c.jpg", "--out", tmp_path / "new" / "none.csv")
    assert result.exit_code == 1
    assert "images could be read" in result.stderr
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"x.csv", "x.jsonl", "x.txt"}


def test_a_json_file_needs_its_format(sandbox: Sandbox, photos: Path, tmp_path: Path) -> None:
    result = sandbox.run("predict", photos, "--out", tmp_path / "x.json")
    assert result.exit_code == 2
    assert "--format" in result.stderr and "label-studio" in result.stderr
    assert not (tmp_path / "x.json").exists()


# Acceptance


def test_a_limit_divides_the_sets_between_two_files(sandbox: Sandbox, photos: Path, tmp_path: Path) -> None:
    told = {str(one["path"]): one for one in records(sandbox, photos, code=3) if "labels" in one}
    confidence = {path: float(str(one["confidence"])) for path, one in told.items()}
    limit = sorted(confidence.values())[2]  # the two most confident of four
    accepted = {path for path, p in confidence.items() if p >= limit}
    asked = ("predict", photos, "--min-confidence", limit, "--workers", 0)
    out, rest = tmp_path / "accepted.jsonl", tmp_path / "rest.csv"
    result = sandbox.run(*asked, "--out", out, "--rest", rest)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "accepted: 2 of 4 images (50.0 %)" in result.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line for line in lines if "skipped" not in line] == [
        {**told[path], "accepted": True} for path in told if path in accepted
    ]
    assert [row["path"] for row in csv.DictReader(rest.open())] == [path for path in told if path not in accepted]

    result = sandbox.run(*asked)
    assert {line.partition(": ")[0] for line in result.stdout.splitlines()} == accepted
    assert f"not accepted: 2: {', '.join(path for path in told if path not in accepted)}" in result.stderr


def test_auto_accept_takes_the_limit_from_val(sandbox: Sandbox, photos: Path, tmp_path: Path) -> None:
    """Every row of val is right down to a confidence of 1e-4, and wrong below: all four images are accepted."""
    folder = tmp_path / "runs" / "known"
    shutil.copytree(only(sandbox.folder / "runs", "*-critic"), folder)
    tensors, facts = checkpoint.load(folder / "best.safetensors")
    assert set(facts["confidence"]["rerank"]["val"]) == {"rerank", "expected-f1"}
    val = {"thresholds": [0.5, 1e-4, 0.0], "accepted": [29, 30, 40], "right": [29, 30, 30]}
    facts["confidence"]["rerank"] = {"temperature": 1.0, "why": None, "val": {"rerank": val}}
    checkpoint.save(folder / "best.safetensors", tensors, facts)
    asked = ("predict", photos, "--run", folder, "--decision", "rerank", "--workers", 0)
    result = sandbox.run(*asked, "--auto-accept", "95%")
    assert result.exit_code == 3, result.stderr
    assert "these are 30 (75.0 %), 30 of them right: 100.0 % [88.6, 100.0]" in result.stderr
    assert "accepted: 4 of 4 images (100.0 %)" in result.stderr
    assert len(result.stdout.splitlines()) == 4

    facts["confidence"]["rerank"]["val"]["rerank"]["right"] = [20, 20, 20]
    checkpoint.save(folder / "best.safetensors", tensors, facts)
    result = sandbox.run(*asked, "--auto-accept", "0.95")
    assert result.exit_code == 1
    assert "at most 69.0 % are right, those of the 29 most confident of 40 rows" in result.stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--rest", "r.csv"), "without a limit there is no rest"),
        (("--min-confidence", 0.9, "--auto-accept", "0.9"), "leave out --min-confidence"),
        (("--min-confidence", 0.9, "--out", "x.csv", "--rest", "./x.csv"), "it is the file of --out"),
        (("--min-confidence", 1.5), "--min-confidence"),
        (("--auto-accept", "95"), "name a share such as 0.95 or 95%"),
    ],
)
def test_flags_of_acceptance_that_do_not_go_together(
    sandbox: Sandbox, photos: Path, words: tuple[object, ...], named: str
) -> None:
    result = sandbox.run("predict", photos, *words)
    assert result.exit_code == 2
    assert named in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("tool", ["coco", "fiftyone", "label-studio"])
def test_what_tools_import_is_read_back_as_the_same_label_sets(
    sandbox: Sandbox, photos: Path, tmp_path: Path, tool: str
) -> None:
    told = {one["path"]: one["labels"] for one in records(sandbox, photos, "--top-k", 2, code=3) if "labels" in one}
    file = tmp_path / "for people.json"
    result = sandbox.run("predict", photos, "--top-k", 2, "--format", tool, "--out", file, "--workers", 0)
    assert (result.exit_code, result.stdout) == (3, "")
    table = tmp_path / "back" / "labels.csv"
    result = sandbox.run("import", file, "--out", table)
    assert result.exit_code == 0, result.stderr
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    back = {str((table.parent / row["path"]).resolve()): set(row["labels"].split(";")) for row in rows}
    assert back == {str(Path(str(path)).resolve()): {x["label"] for x in labels} for path, labels in told.items()}  # type: ignore[index, attr-defined]


def test_sidecars_hold_the_same_object(sandbox: Sandbox, photos: Path) -> None:
    told = records(sandbox, photos, "--sidecars", "--all", code=3)
    for one in told:
        sidecar = Path(f"{one['path']}.labels.json")
        if "skipped" in one:
            assert not sidecar.exists()
        else:
            assert json.loads(sidecar.read_text()) == one
    assert len(records(sandbox, photos, code=3)) == 5, "sidecars are no images"


def test_flags_that_do_not_go_together(sandbox: Sandbox, photos: Path) -> None:
    for words, told in (
        (("--json", "--format", "csv"), "leave out one of the two"),
        (("--stdin-json",), "leave out IMG"),
        (("--format", "xml"), "'jsonl'"),
    ):
        result = sandbox.run("predict", photos, *words)
        assert result.exit_code == 2
        assert told in " ".join(result.stderr.replace("│", "").split())
    assert sandbox.run("predict").exit_code == 2


# On a terminal


class Teletype(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_results_go_to_stdout_while_a_bar_is_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, file = Teletype(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "stdout", file)
    monkeypatch.setenv("TERM", "xterm")
    with cli_show.Terminal().bar("labelling", None, "images") as bar:
        bar.advance(3)
        cli_show.print_json({"path": "a.png"})
    assert file.getvalue() == '{"path": "a.png"}\n'
    assert "labelling" in screen.getvalue()
    before = screen.getvalue()
    with cli_show.Terminal(bars=False).bar("labelling", 2, "images") as bar:
        bar.advance()
    assert screen.getvalue() == before


def test_a_table_for_people_on_a_terminal(sandbox: Sandbox, photos: Path) -> None:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "labeldep_cli", "predict", "a.png", "--top-k", "1", "--workers", "0"]
    done = subprocess.run(
        command, cwd=photos, env=environment(sandbox), stdout=theirs, stderr=subprocess.PIPE, timeout=PATIENCE
    )
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 4096):
            shown += block
    except OSError:  # Linux: the other end is closed
        pass
    os.close(ours)
    assert done.returncode == 0, done.stderr
    assert b"image" in shown and b"labels" in shown and b"a.png" in shown


# Copies


def test_annotate_writes_copies_and_touches_no_image(sandbox: Sandbox, photos: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    out = tmp_path / "copies"
    records(sandbox, photos, "--annotate", out, "--top-k", 2, code=3)
    assert {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()} == before
    copies = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert copies == {"a.png", "b.jpg", "deep/a.png", "z.bmp.jpg"}, "mirrored; the broken one has none"
    with Image.open(out / "a.png") as copy, Image.open(photos / "a.png") as image:
        left = (copy.width - image.width) // 2
        seen = np.asarray(copy.crop((left, 0, left + image.width, image.height)))
        assert np.array_equal(seen, np.asarray(image)), "nothing is drawn over the image"
        band = np.asarray(copy)[image.height :]
        assert (band == 255).all(axis=2).any(), "white letters"
    with Image.open(out / "a.png") as copy, Image.open(out / "deep" / "a.png") as other:
        assert not np.array_equal(np.asarray(copy), np.asarray(other))


def test_annotate_draws_what_it_is_given(tmp_path: Path) -> None:
    image = draw_image(tmp_path / "wide.png", 0, (3000, 1000))
    annotate(image, PixelRules(), [("cat", 0.9)], tmp_path / "one.png")
    annotate(image, PixelRules(), [("cat", 0.1)], tmp_path / "other.png")
    annotate(image, PixelRules(), [(f"a rather long label {k}", k / 20) for k in range(20)], tmp_path / "many.png")
    annotate(image, PixelRules(), [("x" * 5000, 0.5)], tmp_path / "long.png")
    annotate(draw_image(tmp_path / "tiny.png", 0, (4, 3)), PixelRules(), [], tmp_path / "none.png")
    seen = {
        name: np.asarray(read_image(tmp_path / f"{name}.png", PixelRules()))
        for name in ("one", "other", "many", "long", "none")
    }
    assert {name: pixels.shape[1] for name, pixels in seen.items()} == {
        **dict.fromkeys(("one", "other", "many", "long"), LONGEST),
        "none": 320,
    }
    blue = {name: (pixels[342:] == (0, 96, 150)).all(axis=2).sum() for name, pixels in seen.items()}
    assert blue["one"] > 4 * blue["other"] > 0, "the bar is as long as the probability"
    assert len(seen["many"]) > len(seen["one"]) == len(seen["long"]), "many labels take more lines; one is cut"


def test_no_copy_lands_on_an_image(sandbox: Sandbox, photos: Path) -> None:
    before = (photos / "deep" / "a.png").read_bytes()
    for folder in (photos, photos / "deep", photos / "deep" / ".." / "deep"):
        result = sandbox.run("predict", photos, "--annotate", folder)
        assert result.exit_code == 1
        assert "where --annotate writes its copies" in result.stderr
        assert "Name a folder" in result.stderr
    assert (photos / "deep" / "a.png").read_bytes() == before
    copies = Copies(photos / "deep", None)
    with pytest.raises(Exception, match="where --annotate writes its copies"):
        copies.write(Prediction(str(photos / "deep" / "a.png"), (), {}, 1.0), PixelRules())


def test_where_copies_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = ["one/x.jpg", "two/x.jpg", "two/../two/deep/y.webp"]
    known = Copies(tmp_path / "out", paths)
    assert [known.place(path).relative_to(tmp_path / "out").as_posix() for path in paths] == [
        "one/x.jpg",
        "two/x.jpg",
        "two/deep/y.webp.jpg",
    ]
    assert Copies(tmp_path / "out", ["one/x.jpg"]).place("one/x.jpg") == tmp_path / "out" / "x.jpg"
    unknown = Copies(tmp_path / "out", None)
    assert unknown.place("one/x.jpg") == tmp_path / "out" / "one" / "x.jpg"
    assert unknown.place("/somewhere/x.jpg") == tmp_path / "out" / "somewhere" / "x.jpg"
    gone = known.write(Prediction("one/x.jpg", (), {}, 1.0), PixelRules())
    assert gone == Skipped("one/x.jpg", "missing file")


# Many images, and paths from a pipe


def asked(sandbox: Sandbox, images: object, workers: int = 1) -> Iterator[Prediction | Skipped]:
    machine, run_workspace = Machine("cpu", workers), RunWorkspace(sandbox.folder / "runs")
    return predict(run_workspace, None, machine, DecisionConfig(), None, images, SilentReporter())  # type: ignore[arg-type]


def test_a_broken_file_in_the_midst_is_named_and_the_rest_are_done(sandbox: Sandbox, tmp_path: Path) -> None:
    images = [str(sandbox.table.parent / "img" / f"{k % 40}.png") for k in range(2 * BATCH + 5)]
    (tmp_path / "broken.png").write_bytes(Path(images[0]).read_bytes()[:60])
    images[BATCH + 1] = str(tmp_path / "broken.png")
    found = list(asked(sandbox, images))
    assert [one.path for one in found] == images
    assert [one for one in found if isinstance(one, Skipped)] == [
        Skipped(images[BATCH + 1], "truncated or broken image")
    ]
    alone = list(asked(sandbox, images, workers=0))
    assert found == alone, "workers change nothing"
    streamed = list(asked(sandbox, iter(images)))
    assert [one.path for one in streamed] == images
    for one, other in zip(found, streamed, strict=True):
        if isinstance(one, Prediction) and isinstance(other, Prediction):
            assert list(other.probabilities.values()) == pytest.approx(list(one.probabilities.values()), abs=1e-5)


def test_an_unreadable_image_takes_no_other_one_s_labels() -> None:
    """Three images in grey 51, none, and grey 204; p is their grey of 255, and the labels above 1/2 are taken.

    The only label is right with max(p, 1 - p) = 0.8; the limit of 0.9 accepts neither image.
    """
    images = torch.zeros(3, 1, 3, 4, 4, dtype=torch.uint8)
    images[0], images[2] = 51, 204

    def by_grey(seen: torch.Tensor) -> Labelled:
        p = seen.double().mean(dim=(1, 2, 3)).numpy()[:, None] / 255
        return Labelled(p, p > 0.5, np.maximum(p, 1 - p)[:, 0])

    labeller = SimpleNamespace(label=by_grey, run=SimpleNamespace(space=SimpleNamespace(names=("bright",))), limit=0.9)
    decoded = Decoded(images, torch.tensor([0, Reason.NOT_AN_IMAGE, 0]))
    assert list(label(labeller, ["dark", "none", "light"], decoded)) == [  # type: ignore[arg-type]
        Prediction("dark", (), {"bright": 0.2}, 0.8, accepted=False),
        Skipped("none", "not an image"),
        Prediction("light", (("bright", 0.8),), {"bright": 0.8}, 0.8, accepted=False),
    ]
    nothing = Decoded(torch.zeros(0, dtype=torch.uint8), torch.tensor([Reason.EMPTY]))
    assert list(label(labeller, ["none"], nothing)) == [Skipped("none", "empty file")]  # type: ignore[arg-type]


def test_the_most_probable_label_comes_first_and_equal_ones_in_label_order() -> None:
    p, chosen = np.array([0.6, 0.7, 0.9, 0.6]), np.array([True, False, True, True])
    found = prediction_of("x.png", "abcd", p, chosen, 0.25)
    assert found.labels == (("c", 0.9), ("a", 0.6), ("d", 0.6))
    assert list(found.probabilities.items()) == [("a", 0.6), ("b", 0.7), ("c", 0.9), ("d", 0.6)]


@pytest.mark.parametrize("workers", [0, 1])
def test_endless_paths_are_read_a_little_ahead(sandbox: Sandbox, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_room, "_AHEAD", 8)
    read = count()
    image = str(sandbox.table.parent / "img" / "0.png")

    def endless() -> Iterator[str]:
        while next(read) >= 0:
            yield image

    found = asked(sandbox, endless(), workers)
    taken = [next(found) for _ in range(3 * BATCH)]
    found.close()  # type: ignore[attr-defined]
    assert all(one.path == image for one in taken)
    assert next(read) <= 3 * BATCH + 4 * BATCH + 8 + 1, "three batches given, four at most at work, eight in the queue"


def test_batches_of_what_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, busy = threading.Event(), [False]

    def paths() -> Iterator[str]:
        yield from ("a", "b")
        gate.wait(PATIENCE)
        yield from map(str, range(BATCH + 1))

    monkeypatch.setattr(path_room, "_GRACE", 0.2)
    batches = as_they_come(paths(), lambda: busy[0])
    assert next(batches) == ["a", "b"], "no wait for a whole batch"
    busy[0] = True
    assert next(batches) == [], "others are at work: whoever asks gets to their answers"
    gate.set()
    busy[0] = False
    assert [path for batch in batches for path in batch] == [*map(str, range(BATCH + 1))]

    def failing() -> Iterator[str]:
        yield "a"
        raise OSError("the pipe broke")

    with pytest.raises(OSError, match="the pipe broke"):
        list(as_they_come(failing(), lambda: False))


def test_expand_reads_what_is_named(photos: Path) -> None:
    found = [Path(path).relative_to(photos).as_posix() for path in expand([str(photos), f"{photos}/*.bmp"], [].append)]
    assert found == ["a.png", "b.jpg", "c.jpg", "deep/a.png", "z.bmp", "z.bmp"]


def environment(sandbox: Sandbox) -> dict[str, str]:
    return {
        **os.environ,
        "LABELDEP_RUNS": str(sandbox.folder / "runs"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }


def started(sandbox: Sandbox, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "labeldep_cli", "predict", *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment(sandbox), text=True, bufsize=1, **pipes)  # type: ignore[call-overload,no-any-return]


def test_a_path_from_a_pipe_is_answered_before_the_next_one_comes(sandbox: Sandbox) -> None:
    """Would block for ever if it were not: a timer ends it then."""
    images = [str(sandbox.table.parent / "img" / f"{k}.png") for k in (3, 4)]
    with started(sandbox, "-", "--json", "--workers", "2") as process:
        timer = threading.Timer(PATIENCE, process.kill)
        timer.start()
        for image in images:
            process.stdin.write(f"{image}\n\n")
            answer = process.stdout.readline()
            assert answer, process.stderr.read()
            assert json.loads(answer)["path"] == image
        process.stdin.close()
        assert process.stdout.read() == ""
        assert process.wait() == 0
        timer.cancel()


def test_the_last_path_of_a_pipe_needs_no_line_end(sandbox: Sandbox) -> None:
    images = [str(sandbox.table.parent / "img" / f"{k}.png") for k in (3, 4)]
    where = {"LABELDEP_RUNS": str(sandbox.folder / "runs")}
    result = CliRunner().invoke(app, ["predict", "-", "--json"], env=where, input="\n".join(images))
    assert [json.loads(line)["path"] for line in result.stdout.splitlines()] == images


def test_a_pipe_with_names_that_are_not_utf8(sandbox: Sandbox, tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")
    Path(name).write_bytes(draw_image(tmp_path / "plain.png", 0).read_bytes())
    where = {"LABELDEP_RUNS": str(sandbox.folder / "runs")}
    result = CliRunner().invoke(app, ["predict", "-", "--json"], env=where, input=os.fsencode(name) + b"\r\n")
    assert json.loads(result.stdout)["path"] == name


# The mode that stays


def test_a_session_of_requests(sandbox: Sandbox, photos: Path) -> None:
    good, broken = str(photos / "a.png"), str(photos / "c.jpg")
    content = base64.b64encode((photos / "a.png").read_bytes()).decode()
    (expected,) = records(sandbox, good, "--all", "--top-k", 2)
    bare = {key: value for key, value in expected.items() if key != "path"}
    exchanges: list[tuple[object, dict[str, object]]] = [
        ({"path": good}, expected),
        ({"path": broken, "id": "x"}, {"id": "x", "path": broken, "skipped": "not an image"}),
        ("{", {"error": "not JSON"}),
        ("[1]", {"error": "not a JSON object"}),
        ("", {"error": "not JSON"}),
        ("[" * 100_000, {"error": "not JSON"}),
        ({"id": 5}, {"id": 5, "error": "found: none"}),
        ({"id": 6, "path": good, "threshold": 0.1}, {"id": 6, "error": "'threshold'"}),
        ({"id": [7], "path": 7}, {"id": [7], "error": "a path is a string"}),
        ({"id": 8, "image": "no base64!"}, {"id": 8, "error": "not base64"}),
        ({"id": 9, "image": content}, {"id": 9, "path": None, **bare}),
        ({"image": base64.b64encode(b"text").decode()}, {"path": None, "skipped": "not an image"}),
        ({"paths": [good, broken]}, {"predictions": [expected, {"path": broken, "skipped": "not an image"}]}),
        ({"paths": []}, {"predictions": []}),
    ]
    with started(sandbox, "--stdin-json", "--all", "--top-k", "2") as process:
        timer = threading.Timer(PATIENCE, process.kill)
        timer.start()
        notes = [process.stderr.readline() for _ in range(2)]
        assert notes[0].startswith("the newest run")
        assert notes[1].startswith("ready: one request a line")
        for request, answer in exchanges:
            process.stdin.write((request if isinstance(request, str) else json.dumps(request)) + "\n")
            found = json.loads(process.stdout.readline())
            if "error" in answer:
                assert answer.pop("error") in found.pop("error")
            assert _rounded(found) == _rounded(answer)
        process.stdin.close()
        assert process.wait() == 3, "some were not labelled"
        timer.cancel()


def test_a_session_in_which_all_went_well_ends_with_0(sandbox: Sandbox, photos: Path) -> None:
    where = {"LABELDEP_RUNS": str(sandbox.folder / "runs")}
    lines = b'{"path": "%s", "id": 1}\n' % os.fsencode(photos / "a.png")
    result = CliRunner().invoke(app, ["predict", "--stdin-json"], env=where, input=lines * 2)
    assert result.exit_code == 0, result.stderr
    assert len(result.stdout.splitlines()) == 2
    refused = CliRunner().invoke(app, ["predict", "--stdin-json"], env=where, input=b'{"path": "\xff"}\n' + lines)
    assert refused.exit_code == 3
    assert "not JSON" in json.loads(refused.stdout.splitlines()[0])["error"]


def _rounded(value: object) -> object:
    """Batches of other sizes move a probability's last digits."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


@pytest.fixture
def of_four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def labeller_of(multiply_adds: int, slow_on: int = 0, device: str = "cpu") -> Any:
    """A labeller whose network is one product of matrices; on so many threads it is slow."""

    def label(images: torch.Tensor) -> None:
        time.sleep(0.02 if torch.get_num_threads() == slow_on else 0.0)
        _ = torch.empty(multiply_adds // 1_000_000, 1000, device="meta") @ torch.empty(1000, 1000, device="meta")

    return SimpleNamespace(square=Framing(4), device=torch.device(device), label=label)


@pytest.mark.usefixtures("of_four_threads")
@pytest.mark.parametrize(
    ("multiply_adds", "threads"),
    [(1_000_000, 1), (3_999_000_000, 1), (4_000_000_000, 2), (6_000_000_000, 3), (90_000_000_000, 4)],
)
def test_a_single_image_gets_a_thread_for_each_two_billion_multiply_adds(
    multiply_adds: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for slow_on in (0, 1, 4):
        assert threads_for_one(labeller_of(multiply_adds, slow_on)) == threads, "whatever a clock says"
    assert torch.get_num_threads() == 4
    assert threads_for_one(labeller_of(multiply_adds, device="cuda")) == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert threads_for_one(labeller_of(multiply_adds)) == 4, "the user's own word"


def test_two_processes_give_the_same_bytes(sandbox: Sandbox) -> None:
    run = only(sandbox.folder / "runs", "*-pretrain")
    images = sorted((sandbox.table.parent / "img").glob("*.png"))[:12]
    requests = "".join(json.dumps({"path": str(path)}) + "\n" for path in images)
    command = [sys.executable, "-m", "labeldep_cli", "predict", "--stdin-json", "--all", "--run", str(run)]
    alone = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    answers = [
        subprocess.run(command, input=requests, env=alone, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert answers[0] == answers[1]
    assert len(answers[0].splitlines()) == 12 and "probabilities" in answers[0]


def test_a_name_that_cannot_be_looked_at_is_skipped_and_the_rest_are_done(sandbox: Sandbox) -> None:
    images = [str(path) for path in sorted(sandbox.table.parent.rglob("*.png"))[:2]]
    result = sandbox.run("predict", images[0], "x" * 5000, images[1], "--json")
    assert result.exit_code == 3, result.stderr
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["path"] for one in told if "labels" in one] == images
    assert [one["path"] for one in told if "skipped" in one] == ["x" * 5000]


def test_copies_never_land_on_each_other(tmp_path: Path) -> None:
    paths = [str(draw_image(tmp_path / name, seed)) for seed, name in enumerate(("a.bmp", "a.bmp.jpg"))]
    copies = Copies(tmp_path / "copies", paths)
    assert len({copies.place(path) for path in paths}) == 2

"""Broken, foreign and misspelt input, machines that fail, users that interrupt: one line that says what and how to mend
it, the right exit code, no traceback, and nothing lost."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import draw_image
from PIL import Image
from typer.testing import CliRunner, Result

import labeldep_cli
from labeldep_cli.cli import app
from labeldep_cli.errors import LabeldepError
from labeldep_cli.features import decode
from labeldep_cli.features.store import known_files
from labeldep_cli.models.scenesnet import ScenesNet
from labeldep_cli.progress import SilentReporter
from labeldep_cli.runs.claims import claim

BACKBONE = ("--backbone", "scenesnet", "--weights", "none", "--device", "cpu", "--workers", "0")
STEPS = ("--steps", "60", "--batch-size", "8")
CRITIC = ("--critic-layers", "1", "--critic-width", "8", "--critic-projection", "8", *STEPS)
PATIENCE = 60.0


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def succeeded(result: Result) -> Result:
    assert result.exit_code == 0, f"{result.stderr}\n{result.exception!r}"
    return result


def refused(result: Result, what: str, remedy: str = "", code: int = 1) -> None:
    """The command ended with one error, `what` in its line and `remedy` below it (both regular expressions)."""
    assert isinstance(result.exception, SystemExit), f"{result.exception!r} is a bug, not an error to mend"
    assert result.exit_code == code, result.stderr
    _, error, told = result.stderr.partition("error: ")
    assert error, result.stderr
    assert "error: " not in told
    line, *below = told.splitlines()
    assert re.search(what, line), f"{what!r} is not in {line!r}"
    assert re.search(remedy, "\n".join(below)), f"{remedy!r} is not in {below!r}"


def misused(result: Result, *texts: str) -> None:
    """Wrong usage; the texts are in the message, which the terminal's frame may break anywhere."""
    assert result.exit_code == 2, result.stderr
    told = re.sub(r"[\s│]+", " ", result.stderr)
    for text in texts:
        assert text in told


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file's bytes and time; but for locks, which are taken anew, and the memory of files."""
    passing = (".lock", known_files.NAME)
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(passing)]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def make_table(folder: Path, rows: int = 40, labels: tuple[str, ...] = ("sea", "sky")) -> Path:
    rng = np.random.default_rng(rows)
    lines = ["path,split," + ",".join(labels)]
    for row in range(rows):
        draw_image(folder / f"{row}.png", row)
        split = "val" if row % 5 == 0 else "test" if row % 5 == 1 else "train"
        lines.append(f"{row}.png,{split}," + ",".join(map(str, rng.integers(0, 2, len(labels)))))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "labels.csv"


@dataclass(frozen=True)
class Work:
    """A table of images, a data folder with its caches, a runs folder."""

    table: Path
    folder: Path

    @property
    def data(self) -> tuple[object, ...]:
        return ("--data-dir", self.folder / "data")

    @property
    def runs(self) -> tuple[object, ...]:
        return ("--runs-dir", self.folder / "runs")

    @property
    def extract(self) -> tuple[object, ...]:
        return ("extract", "--dataset", self.table, *BACKBONE, *self.data)

    @property
    def pretrain(self) -> tuple[object, ...]:
        return ("pretrain", "--dataset", self.table, *BACKBONE, *self.data, *self.runs, *STEPS)

    @property
    def adversarial(self) -> tuple[object, ...]:
        return ("adversarial", "--dataset", self.table, *BACKBONE, *self.data, *self.runs, *CRITIC)

    @property
    def eval(self) -> tuple[object, ...]:
        return ("eval", *self.data, *self.runs, "--device", "cpu")

    @property
    def cache(self) -> Path:
        """The segment that holds the train split's features."""
        return only(self.folder / "data/features", "scenesnet-*/test-000001.h5")

    @property
    def run_folder(self) -> Path:
        return only(self.folder / "runs", "*-scenesnet-pretrain")

    def copy(self, folder: Path) -> Work:
        """The same caches and runs elsewhere, to be spoilt; the table stays, since its path names them."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return Work(self.table, folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """Caches and a finished pretrain run."""
    folder = tmp_path_factory.mktemp("bad")
    work = Work(make_table(folder / "images"), folder / "work")
    succeeded(run(*work.extract))
    succeeded(run(*work.pretrain))
    return work


@pytest.fixture(autouse=True)
def nothing_lost(made: Work) -> Iterator[None]:
    """Whatever a test does, the finished caches and the finished run stay as they are."""
    before = snapshot(made.folder)
    yield
    assert snapshot(made.folder) == before


@pytest.fixture
def work(made: Work, tmp_path: Path) -> Work:
    return made.copy(tmp_path / "work")


# Images


def test_images_of_any_kind(tmp_path: Path) -> None:
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    plain = Image.open(draw_image(folder / "plain.png", 0))
    draw_image(tmp_path / "elsewhere" / "beside.png", 1)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    plain.convert("CMYK").save(folder / "cmyk.jpg")
    plain.quantize(8).save(folder / "palette.png")
    Image.fromarray(rng.integers(0, 65536, (30, 40), dtype=np.uint16)).save(folder / "sixteen.png")
    plain.save(folder / "rotated.jpg", exif=rotated)
    plain.save(folder / "moving.gif", save_all=True, append_images=[plain.rotate(90)])
    names = ["cmyk.jpg", "palette.png", "sixteen.png", "rotated.jpg", "moving.gif", "../elsewhere/beside.png"]
    lines = ["path,sea", *(f"{name},1" for name in (*names, folder / "plain.png"))]
    (folder / "labels.csv").write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())  # a byte order mark
    result = succeeded(run("extract", "--dataset", folder, *BACKBONE, "--data-dir", tmp_path, "--json"))
    told = json.loads(result.stdout)
    assert told["skipped"] == []
    assert sum(file["rows"] for file in told["files"]) == len(names) + 1


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


BROKEN = {
    "truncated.jpg": "truncated or broken image",
    "empty.jpg": "empty file",
    "text.jpg": "not an image",
    "huge.png": "over 178 megapixels, not decoded",
    "gone.jpg": "missing file",
}


def make_broken(folder: Path) -> Path:
    """A table of 20 rows, five of which cannot be read."""
    table = make_table(folder, 15)
    whole = io.BytesIO()
    Image.open(folder / "0.png").save(whole, "jpeg")
    (folder / "truncated.jpg").write_bytes(whole.getvalue()[:-200])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("no image")
    (folder / "huge.png").write_bytes(png_that_claims(20_000, 20_000))
    with table.open("a") as file:
        file.writelines(f"{name},train,1,0\n" for name in BROKEN)
    for path in folder.iterdir():  # so long ago that nobody doubts that they stay as they are
        os.utime(path, ns=(10**18 + 1, 10**18 + 1))
    return table


def mend(folder: Path) -> None:
    for name in BROKEN:
        Image.open(folder / "0.png").save(folder / name)


def test_unreadable_images_are_skipped_and_named(tmp_path: Path) -> None:
    command = ("extract", "--dataset", make_broken(tmp_path), *BACKBONE, "--data-dir", tmp_path, "--max-skipped", 0.5)
    result = run(*command, "--json")
    assert result.exit_code == 3, result.stderr
    assert {skip["path"]: skip["reason"] for skip in json.loads(result.stdout)["skipped"]} == BROKEN
    for name, reason in BROKEN.items():
        assert f"skipped: {name}: {reason}" in result.stderr.splitlines()
    again = run(*command)
    assert again.exit_code == 3
    assert "that can be read are there" in again.stderr


def test_too_many_unreadable_images(tmp_path: Path) -> None:
    command = ("extract", "--dataset", make_broken(tmp_path), *BACKBONE, "--data-dir", tmp_path)
    refused(
        run(*command), r"5 of 14 images of the train split cannot .* --max-skipped 0.01: \w+\.\w+ \(", "Repair them"
    )
    mend(tmp_path)
    told = json.loads(succeeded(run(*command, "--json")).stdout)
    assert told["skipped"] == []
    train, *others = told["files"]
    assert train["computed"] == len(BROKEN), "the others were kept when it stopped"
    assert all(file["computed"] == file["rows"] for file in others)


def test_a_cache_with_too_many_unreadable_images(tmp_path: Path) -> None:
    work = Work(make_broken(tmp_path / "images"), tmp_path)
    assert run(*work.extract, "--max-skipped", 0.5).exit_code == 3
    refused(run(*work.pretrain), "5 of 14 images of the train split", "Repair them")
    mend(tmp_path / "images")
    result = succeeded(run(*work.pretrain))
    assert "features of train are missing: extracting them first" in result.stderr, "of those that are mended"


def test_a_command_that_finds_an_image_unreadable_ends_with_3_and_the_next_one_with_0(tmp_path: Path) -> None:
    """Both name the image; the exit code is for the one that read the split, and did not find it in a cache."""
    work = Work(make_table(tmp_path / "images"), tmp_path / "work")
    (tmp_path / "images" / "1.png").write_text("no image")  # a row of test, which no training looks at
    succeeded(run(*work.pretrain))
    audit = ("audit", work.run_folder, *work.data, "--out", tmp_path / "audit", "--device", "cpu", "--split", "test")
    for command in (work.eval, audit):
        shutil.rmtree(work.folder / "data/features")
        for code in (3, 0):
            result = run(*command, "--max-skipped", 0.5, "--workers", 0)
            assert result.exit_code == code, result.stderr
            assert "skipped: 1.png: not an image" in result.stderr.splitlines()


def test_a_decoding_process_that_is_killed(tmp_path: Path, made: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = os.getpid()

    def killed(*_: object) -> Image.Image:
        assert os.getpid() != parent
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    monkeypatch.setattr(decode, "decode_image", killed)
    result = run("extract", "--dataset", made.table, *BACKBONE[:-1], 1, "--data-dir", tmp_path)
    refused(result, "a decoding process was killed", "--workers 0")


# Tables and ready features


@pytest.mark.parametrize(
    ("content", "what", "remedy"),
    [
        (
            b"path,sea\na.jpg,1\na.jpg,0\n",
            r"the path 'a.jpg' is listed twice, as entries 1 and 2",
            "Merge the two rows",
        ),
        (b"file,sea\na.jpg,1\n", "there is no column 'path'; its columns are file, sea", "The header is path"),
        (b"path,sea\na.jpg,2\n", "line 2, column 'sea': '2' is not a label value", "1 .*, 0 .* or \\?"),
        (b"path,sea\n\xff.jpg,1\n", "is not UTF-8: byte 9 is 0xff", "--encoding cp1252"),
        (b"path,split,sea\na.jpg,tran,1\n", "line 2: unknown split 'tran'", "A split is train, val or test"),
        (b"path,sea\na.jpg\n", "line 2: 1 fields, but the header has 2", "one field per column"),
        (b"", "is empty", "Its first line is the header"),
    ],
)
def test_broken_tables(tmp_path: Path, content: bytes, what: str, remedy: str) -> None:
    (tmp_path / "labels.csv").write_bytes(content)
    result = run("extract", "--dataset", tmp_path / "labels.csv", *BACKBONE, "--data-dir", tmp_path)
    refused(result, f"labels.csv.*{what}", remedy)
    assert not (tmp_path / "features").exists()


def test_a_path_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(
        '{"path": "a.jpg", "labels": ["sea"]}\n{"path": "\\ud800.jpg", "labels": []}\n'
    )
    result = run("extract", "--dataset", tmp_path / "rows.jsonl", *BACKBONE, "--data-dir", tmp_path)
    refused(result, r"rows.jsonl: '\\ud800.jpg' holds half of a character", "Write it in full")


def write_h5(path: Path, **arrays: object) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            if value is None:
                file.create_group(name)
            else:
                file[name] = value
    return path


X, Y, NAMES = np.ones((9, 4), np.float32), np.ones((9, 2), np.int8), np.array([b"sea", b"sky"])


def npz(path: Path, x: object = X, names: object = ("sea", "sky")) -> Path:
    np.savez(path, X=x, Y=Y, label_names=names)
    return path


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (
            lambda folder: npz(folder / "x.npz", np.where(np.arange(36).reshape(9, 4) == 13, np.nan, X)),
            "X has NaN.* row 3",
        ),
        (lambda folder: npz(folder / "x.npz", names=np.array(["sea", None])), "holds Python objects"),
        (lambda folder: write_h5(folder / "x.h5", X=None, Y=Y, label_names=NAMES), "does not hold the expected arrays"),
        (lambda folder: write_h5(folder / "x.h5", X=3.0, Y=Y, label_names=NAMES), "does not hold the expected arrays"),
        (
            lambda folder: write_h5(folder / "x.h5", X=X, Y=Y, label_names=[b"\xff", b"a"]),
            "does not hold the expected arrays",
        ),
        (lambda folder: write_h5(folder / "x.h5", X=X), "it has no Y, label_names"),
    ],
)
def test_broken_ready_features(tmp_path: Path, make: Callable[[Path], Path], what: str) -> None:
    refused(
        run("pretrain", "--dataset", make(tmp_path), "--device", "cpu", "--runs-dir", tmp_path / "runs"), what, r"\w"
    )
    assert not (tmp_path / "runs").exists()


def test_ready_features_and_images_are_told_apart(tmp_path: Path, work: Work) -> None:
    features = npz(tmp_path / "x.npz")
    refused(run("extract", "--dataset", features), "holds ready features, no images", "labeldep pretrain --dataset")
    refused(run("pretrain", "--dataset", features, "--backbone", "vgg16"), "need no backbone", "Leave --backbone out")
    succeeded(run("pretrain", "--dataset", features, "--device", "cpu", *work.runs, "--steps", 2))
    refused(run("predict", features, *work.runs), "was trained on ready features and cannot label images", "--run RUN")
    refused(
        run("adversarial", "--dataset", features, "--device", "cpu", *work.runs, "--from", work.run_folder),
        "trained on scenesnet features, but these are ready ones",
        "--from",
    )


# Caches


@pytest.fixture(scope="module")
def other_backbone(made: Work, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the same train split through SqueezeNet."""
    folder = tmp_path_factory.mktemp("other")
    backbone = ("--backbone", "squeezenet1_1", *BACKBONE[2:])
    succeeded(run("extract", "--dataset", made.table, *backbone, "--split", "train", "--data-dir", folder))
    return only(folder / "features", "*/*.h5")


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        ("truncated", r"is no readable HDF5 file \(truncated or foreign\)"),
        ("text", r"is no readable HDF5 file \(truncated or foreign\)"),
        ("foreign", "is an HDF5 file, but no segment of features"),
        ("renamed", "holds features of squeezenet1_1, not of this store"),
    ],
)
def test_broken_caches(work: Work, other_backbone: Path, spoil: str, what: str) -> None:
    if spoil == "truncated":
        work.cache.write_bytes(work.cache.read_bytes()[:-500])
    elif spoil == "text":
        work.cache.write_text("no HDF5")
    elif spoil == "foreign":
        write_h5(work.cache, X=X)
    else:
        shutil.copy(other_backbone, work.cache)
    before = snapshot(work.folder)
    for command in (work.extract, work.pretrain, (*work.adversarial, "--from", work.run_folder)):
        refused(run(*command), f"{work.cache.name} {what}", "Run: labeldep extract --dataset .* --fresh")
    left = {name: kept for name, kept in snapshot(work.folder).items() if name in before}
    assert left == before
    succeeded(run(*work.extract, "--fresh"))
    assert "is finished already" in succeeded(run(*work.pretrain)).stderr


def test_other_weights_under_the_same_name(work: Work, tmp_path: Path) -> None:
    """Features are told by the bytes of the weights, not by their name: others are computed beside them."""
    weights = tmp_path / "weights.pth"
    command = [*work.extract[:-2], "--data-dir", tmp_path, "--weights", weights]
    stores = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        torch.save(ScenesNet().state_dict(), weights)
        succeeded(run(*command))
        stores.append({path.name for path in (tmp_path / "features").glob("scenesnet-*")})
    assert [len(names) for names in stores] == [1, 2] and stores[0] < stores[1]
    refused(
        run(*work.eval, "--weights", weights), r"have SHA-256 \w{12}, but .* was trained with \w{12}", "--weights PATH"
    )


def test_labels_in_another_order(tmp_path: Path) -> None:
    """A run takes labels by their names, wherever their columns stand: with two names exchanged, cells differ."""
    work = Work(make_table(tmp_path / "images"), tmp_path)
    succeeded(run(*work.extract))
    succeeded(run(*work.pretrain))
    work.table.write_text(work.table.read_text().replace("path,split,sea,sky", "path,split,sky,sea"))
    assert re.search(r"has changed since .* was trained.*test: \d+ labels of", succeeded(run(*work.eval)).stderr)
    refused(
        run(*work.pretrain),
        r"holds a run with other settings: the data have changed \(train: .*; labels: another order\)",
        "--out FOLDER.*--fresh",
    )
    succeeded(run(*work.pretrain, "--fresh"))


# Weights and devices


class Payload:
    """What a hostile pickle holds."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("kind", ["torch", "pickle", "text", "safetensors", "architecture", "missing"])
def test_weights_that_are_refused(made: Work, tmp_path: Path, kind: str) -> None:
    path, mark = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth"), tmp_path / "code-ran"
    what = "holds more than tensors .* a pickle can run code"
    if kind == "torch":
        torch.save({"conv.weight": Payload(mark)}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Payload(mark)))
    elif kind == "architecture":
        torch.save({"fc.weight": torch.zeros(2, 2)}, path)
        what = "is no state dict of scenesnet: Missing key"
    elif kind == "missing":
        what = "there is no weights file"
    else:
        path.write_text("no weights")
        what = "is no readable weights file" if kind == "safetensors" else what
    command = ("extract", "--dataset", made.table, *BACKBONE, "--weights", path, "--data-dir", tmp_path / "data")
    refused(run(*command), f"w.*{what}" if kind != "missing" else what, r"\w")
    assert not mark.exists()
    assert not list(tmp_path.rglob("*.h5*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(made: Work) -> None:
    refused(run(*made.extract, "--device", "cuda"), "there is no device 'cuda' here: 0 CUDA devices", "--device cpu")
    refused(run(*made.extract, "--device", "gpu"), "there is no device 'gpu'", "auto, cpu, cuda, cuda:N or mps")


# Disks


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A small file system at `folder`; gives the function that remounts it with other options."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True) and None
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def limited_files(size: int) -> Iterator[None]:
    """No file may grow past `size` bytes: what a full disk looks like without a disk of one's own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


FULL = ("no space left to write .*", "Free some disk and run the same command again")


def test_a_full_disk(made: Work, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "12k") as remount:
        extract = (*made.extract, "--features-dir", tmp_path / "disk/features")
        train = (*made.pretrain, "--out", tmp_path / "disk/run")
        refused(run(*extract), FULL[0] + "(kind.json|test-000001.h5)", FULL[1])
        refused(run(*train), FULL[0] + "(rows|last).safetensors", FULL[1])
        assert not list((tmp_path / "disk").rglob("*.partial"))
        assert not list((tmp_path / "disk").rglob("*.writing"))
        remount("size=4m")
        succeeded(run(*extract))
        succeeded(run(*train))
        same = {path.name for path in made.run_folder.iterdir()} - {"config.json", ".lock"}
        assert all(
            (made.run_folder / name).read_bytes() == (tmp_path / "disk/run" / name).read_bytes() for name in same
        )


def test_files_that_cannot_grow(made: Work, tmp_path: Path) -> None:
    extract = (*made.extract, "--features-dir", tmp_path / "features")
    train = (*made.pretrain, "--out", tmp_path / "run")
    with limited_files(4096):
        refused(run(*extract), FULL[0] + "(kind.json|test-000001.h5)", FULL[1])
        refused(run(*train), FULL[0] + "(rows|last).safetensors", FULL[1])
    succeeded(run(*extract))
    succeeded(run(*train))


def test_a_read_only_disk(made: Work, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "4m") as remount:
        work = made.copy(tmp_path / "disk")
        remount("ro")
        succeeded(run(*work.eval))
        for command in (
            (*work.extract, "--fresh"),
            (*work.extract, "--out", tmp_path / "disk/new"),
            (*work.pretrain, "--out", tmp_path / "disk/new"),
            (*work.pretrain, "--fresh"),
        ):
            refused(run(*command), "cannot write .*: the file system is read-only", "Name a writable place: --out")


def test_a_file_where_a_folder_is_needed(made: Work) -> None:
    file = made.table
    for command, place in (
        ((*made.extract, "--out", file), file),
        ((*made.pretrain, "--out", file), file),
        ((*made.pretrain, "--runs-dir", file), file / ".*-pretrain"),
    ):
        refused(run(*command), f"cannot write {place}: a file stands where a folder is needed", "--out")
    refused(run("eval", "--runs-dir", file), "there is no trained run in", "labeldep adversarial")


# Names


def test_names_that_are_nearly_right(made: Work, tmp_path: Path) -> None:
    table = made.table
    refused(run("extract", "--dataset", "cocoo"), "there is no data set 'cocoo'", "Did you mean 'coco'")
    refused(run("extract", "--dataset", table.with_name("label.csv")), "there is no file", "Did you mean 'labels.csv'")
    refused(run("extract", "--dataset", tmp_path / "no" / "x.csv"), "there is no file", "does not exist either")
    refused(
        run("extract", "--dataset", table, "--backbone", "resnet1O1"),
        "there is no backbone 'resnet1O1'",
        r"Did you mean 'resnet101' or '(?!resnet101)",
    )
    near = made.run_folder.name.replace("pretrain", "pretrian")
    for command in (("eval", near), ("predict", table, "--run", near), (*made.adversarial[:-1], "8", "--from", near)):
        where = () if "--runs-dir" in command else made.runs
        refused(run(*command, *where), f"there is no run '{near}'", f"Did you mean '{made.run_folder.name}'")
    refused(run("eval", "--runs-dir", tmp_path), "there is no trained run in .* yet", "labeldep adversarial --dataset")


def test_wrong_usage(made: Work) -> None:
    misused(run("predct"), "No such command 'predct'", "Did you mean 'predict'?")
    misused(run("pretrain", "--alpha", 3), "No such option: --alpha")
    misused(run("adversarial", "--sampling", "gumble"), "'--sampling'", "'gumbel'", "'straight-through'")
    misused(run("extract", "--views", 3), "'--views'", "'21'")
    misused(run(*made.extract, "--split", "tset"), "'--split'", "'test'")
    for flag, value in (("--seed", 2**70), ("--seed", -1), ("--beta1", 1), ("--steps", 0), ("--lr", "nan")):
        misused(run(*made.pretrain, flag, value), f"'{flag}'")
    for flag, value in (("--critic-steps", 0), ("--critic-layers", -1), ("--critic-width", 0), ("--alpha", "nan")):
        misused(run(*made.adversarial, flag, value), f"'{flag}'")
    misused(run("extract", "--max-skipped", 2), "'--max-skipped'")
    for command in (("predict", made.table, *made.runs), made.eval):
        for value in ("tunde", 1.5, -0.1, "nan"):
            misused(run(*command, "--threshold", value), "'--threshold'", "tuned-per-label")


# Predict


def test_predict_without_anything_readable(made: Work, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    result = run("predict", tmp_path / "text.jpg", tmp_path / "gone.jpg", *made.runs, "--json")
    refused(result, "none of the 2 images could be read", "Name image files, folders")
    assert [json.loads(line)["skipped"] for line in result.stdout.splitlines()] == ["not an image", "missing file"]
    (tmp_path / "empty").mkdir()
    refused(run("predict", tmp_path / "empty", *made.runs), "no images were named", "folders with images")


def test_predict_a_file_name_that_is_not_utf8(made: Work, tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")
    shutil.copy(draw_image(tmp_path / "plain.png", 0), name)
    assert json.loads(succeeded(run("predict", name, *made.runs, "--json")).stdout)["path"] == name
    assert os.fsencode(name) in succeeded(run("predict", name, *made.runs)).stdout_bytes


# Runs


def test_other_settings_in_the_same_folder(work: Work) -> None:
    before = snapshot(work.folder)
    other = (*work.pretrain, "--lr", 0.5, "--seed", 3, "--out", work.run_folder)
    result = run(*other)
    refused(result, "other settings: --lr 0.001 there, 0.5 here; --seed 0 there, 3 here", r"--out FOLDER.*\(--fresh\)")
    assert snapshot(work.folder) == before
    succeeded(run(*other, "--fresh"))


@pytest.mark.parametrize(
    ("what", "changed", "there", "here"),
    [
        ("command", {"command": "pretrain"}, "adversarial", "pretrain"),
        ("start", {"start": {"run": "/a", "sha256": "b" * 64}}, "a" * 12, "b" * 12),
        ("weights SHA-256", {"weights": {"path": None, "sha256": "d" * 64}}, "c" * 12, "d" * 12),
        ("data set", {"dataset": {"name": "cats", "fingerprints": {"val": "e" * 64}}}, "dogs", "cats"),
        (
            "rows",
            {"dataset": {"name": "dogs", "fingerprints": {"val": "f" * 64}}},
            {"val": "e" * 12},
            {"val": "f" * 12},
        ),
    ],
)
def test_another_start_other_weights_or_rows_make_another_run(
    tmp_path: Path, what: str, changed: dict[str, object], there: object, here: object
) -> None:
    record: dict[str, object] = {
        "command": "adversarial",
        "settings": {"dataset": "dogs.csv", "lr": 0.1},
        "steps": 10,
        "data_dir": "/data",
        "features_dir": "/data/features",
        "dataset": {"name": "dogs", "fingerprints": {"val": "e" * 64}},
        "labels": ["cat"],
        "weights": {"path": "/w.pth", "sha256": "c" * 64},
        "start": {"run": "/a", "sha256": "a" * 64},
    }
    assert not claim(tmp_path, record, SilentReporter()), "begun, not finished"
    moved = {"data_dir": "/moved", "weights": {"path": "/moved/w.pth", "sha256": "c" * 64}}
    assert not claim(tmp_path, record | moved, SilentReporter()), "a path tells no runs apart"
    with pytest.raises(LabeldepError) as caught:
        claim(tmp_path, record | changed, SilentReporter())
    told = f"{what} {there!r} there, {here!r} here"
    assert caught.value.what == f"{tmp_path} holds a run with other settings: {told}"


def test_labels_that_have_changed_since_the_run_was_trained(tmp_path: Path) -> None:
    """One label of one row: the scores are those of the labels as they are now, and that is said."""
    rng = np.random.default_rng(0)
    arrays = {
        "X": rng.normal(size=(20, 3)).astype(np.float32),
        "Y": rng.integers(0, 2, (20, 2)).astype(np.int8),
        "label_names": np.array(["sea", "sky"]),
        "split": np.array(["train"] * 12 + ["val"] * 4 + ["test"] * 4),
    }
    np.savez(tmp_path / "x.npz", **arrays)
    runs = ("--runs-dir", tmp_path / "runs")
    succeeded(run("pretrain", "--dataset", tmp_path / "x.npz", *runs, "--steps", 1))
    spoilt = arrays["Y"].copy()
    spoilt[19, 1] = 1 - spoilt[19, 1]
    np.savez(tmp_path / "x.npz", **{**arrays, "Y": spoilt})
    what = "has changed since .* was trained; its current state is used: test: 1 label of 1 row differs\n"
    for split in ("test", "val"):
        assert re.search(what, succeeded(run("eval", *runs, "--split", split)).stderr)
    np.savez(tmp_path / "x.npz", **arrays)
    assert "has changed" not in succeeded(run("eval", *runs)).stderr


def test_a_finished_run_again(work: Work, made: Work) -> None:
    before = snapshot(work.folder)
    result = succeeded(run(*work.pretrain, "--json"))
    assert f"{work.run_folder} is finished already" in result.stderr
    assert snapshot(work.folder) == before
    told = json.loads(result.stdout)
    kept = json.loads((made.run_folder / "result.json").read_text())["val"]
    assert told["val"] == {**kept, "dataset": told["val"]["dataset"], "split": "val", "skipped": []}
    succeeded(run(*work.pretrain, "--fresh"))
    assert (work.run_folder / "best.safetensors").read_bytes() == (made.run_folder / "best.safetensors").read_bytes()


SPOILT: tuple[bytes | None, ...] = (b"", b"{", b"[]", b'{"settings": {}}', b"\xff\xfe", None)


@pytest.mark.parametrize("content", SPOILT)
def test_a_broken_config(work: Work, content: bytes | None) -> None:
    config = work.run_folder / "config.json"
    config.unlink() if content is None else config.write_bytes(content)
    before = snapshot(work.folder)
    refused(run(*work.eval), r"config\.json is broken: |there is no .*config\.json", "--fresh")
    refused(run(*work.pretrain), r"config\.json is broken: |holds checkpoints but no config\.json", "--fresh")
    assert snapshot(work.folder) == before
    succeeded(run(*work.pretrain, "--fresh"))


@pytest.mark.parametrize("content", SPOILT)
def test_broken_checkpoints(work: Work, made: Work, content: bytes | None) -> None:
    """`last` is the truth of an unfinished run; `best` is rebuilt from it where it can be."""
    best, last, result = (work.run_folder / name for name in ("best.safetensors", "last.safetensors", "result.json"))
    if content is None:
        shutil.copy(last, best)  # a checkpoint, but of the other kind
        refused(run(*work.eval), "best.safetensors is a checkpoint of another kind: it has no", "--fresh")
    else:
        best.write_bytes(content)
        refused(run(*work.eval), r"best.safetensors is no labeldep checkpoint \(truncated or foreign\)", "--fresh")
    shutil.copy(made.run_folder / best.name, best)
    result.unlink()
    if content is None:
        shutil.copy(best, last)
        refused(run(*work.pretrain), "last.safetensors is a checkpoint of another kind: it has no history", "--fresh")
    else:
        last.write_bytes(content)
        refused(run(*work.pretrain), r"last.safetensors is no labeldep checkpoint \(truncated or foreign\)", "--fresh")
    shutil.copy(made.run_folder / last.name, last)
    result.write_bytes(content or b"")
    assert "resuming at step 60" in succeeded(run(*work.pretrain)).stderr
    assert result.read_bytes() == (made.run_folder / result.name).read_bytes()


def test_a_best_checkpoint_that_cannot_be_rebuilt(work: Work, tmp_path: Path) -> None:
    """Once training is past the best step, `last` must not be passed off as the best."""
    out = ("--out", tmp_path / "run", "--steps", 400, "--lr", 0.5)
    succeeded(run(*work.pretrain, *out))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["best_step"] < result["steps"], "this test needs a run whose best step is not its last"
    (tmp_path / "run" / "best.safetensors").unlink()
    what = r"best.safetensors is missing or broken, and last.safetensors \(step 400\) is past it"
    refused(run(*work.pretrain, *out), rf"{what} \(step {result['best_step']}\)", "--fresh")
    assert not (tmp_path / "run" / "best.safetensors").exists()


def test_a_start_that_does_not_fit(work: Work) -> None:
    start, before = work.run_folder, snapshot(work.folder)
    other = ("--backbone", "squeezenet1_1", "--from", start)
    refused(
        run(*work.adversarial, *other), "trained on scenesnet features, but .* squeezenet1_1", "--backbone scenesnet"
    )
    onto = ("--from", start, "--out", start, "--fresh")
    refused(run(*work.adversarial, *onto), "is the run to start from: .* would overwrite it", "--out FOLDER")
    refused(
        run(*work.adversarial, "--from", start, "--hidden", 7),
        "has --hidden 0, but --hidden 7 is requested",
        "Leave --hidden out",
    )
    assert snapshot(work.folder) == before, "it was refused before anything was extracted or dropped"


def test_config_that_is_none(made: Work, tmp_path: Path) -> None:
    for path in (made.table, tmp_path / "gone.json", tmp_path, made.cache):
        refused(
            run(*made.pretrain, "--config", path),
            f"{path} is not the config.json of a run",
            "--config runs/RUN/config.json",
        )


# Two processes, and Ctrl-C


def hear_interrupts() -> None:
    """A suite that a shell runs in the background inherits that SIGINT is ignored; what it starts must not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def running(words: tuple[object, ...], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a process group of its own, as a terminal starts it; its stderr goes to `log`."""
    root = str(Path(labeldep_cli.__file__).parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    command = [sys.executable, "-m", "labeldep_cli", *map(str, words)]
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            command, stderr=stderr, env=environment, start_new_session=True, preexec_fn=hear_interrupts
        ) as it,
    ):
        try:
            yield it
        finally:
            it.kill()


def interrupt_when(process: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path) -> str:
    """Ctrl-C, which reaches the whole group, once `ready`; what the command then says."""
    wait_for(process, ready)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(PATIENCE) == 130, log.read_text()
    told = log.read_text()
    assert "Traceback" not in told
    assert (
        told.splitlines()[-1]
        == "interrupted: the work so far is kept, the same command (without --fresh) continues from there"
    )
    return told


def wait_for(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert process.poll() is None, "the command ended by itself"
        assert time.monotonic() < deadline, "the command does not get anywhere"
        time.sleep(0.01)


def test_two_processes_and_an_interrupt_in_training(work: Work, tmp_path: Path) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    command = (*work.pretrain, "--steps", 1_000_000, "--out", out)
    with running(command, log) as process:
        wait_for(process, (out / "last.safetensors").exists)
        remedy = "Wait for it to end, or name another place .*--out"
        refused(run(*command), f"another labeldep process is writing {out}", remedy)
        interrupt_when(process, lambda: True, log)
    kept = (out / "last.safetensors").stat().st_mtime_ns
    with running(command, log) as process:
        told = interrupt_when(process, lambda: (out / "last.safetensors").stat().st_mtime_ns > kept, log)
    step = re.search(rf"resuming at step (\d+) of {out}", told)
    assert step and int(step[1]) > 0
    assert not list(out.glob("*.writing"))


def test_an_interrupt_in_extraction(tmp_path: Path) -> None:
    table, features, log = make_table(tmp_path / "images", 400), tmp_path / "features", tmp_path / "log"
    backbone = ("--backbone", "squeezenet1_1", "--weights", "none", "--device", "cpu", "--workers", "1")
    command = ("extract", "--dataset", table, *backbone, "--split", "train", "--out", features)

    def begun() -> bool:
        partial = next(features.glob("*/*.partial"), None)  # its features come first, zero until they are written
        second_group = slice(40 * 512 * 2, 60 * 512 * 2)
        return partial is not None and any(partial.read_bytes()[second_group])

    with running(command, log) as process:
        interrupt_when(process, begun, log)
    result = succeeded(run(*command, "--json"))
    assert "images of train are there; " in result.stderr
    (file,) = json.loads(result.stdout)["files"]
    assert 0 < file["computed"] < file["rows"] == 240

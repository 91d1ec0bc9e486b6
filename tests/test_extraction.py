"""How features are computed is part of a cache, and what is trained on it sees images in the same way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from benchmarks import extraction
from labeldep_cli.cli import app
from labeldep_cli.config import ExtractConfig, Machine
from labeldep_cli.features.cache import FeatureCache
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.features.store.store import FeatureStore
from labeldep_cli.models import tracing
from labeldep_cli.models.backbones import find_backbone
from labeldep_cli.projects.load_features import load_features

ROW = find_backbone("scenesnet")
PLAIN, DRAFTED = (ROW.preprocessing(PixelRules(), jpegs) for jpegs in ("full", "draft"))


class Photos:
    """A data set of large JPEGs, and the command line on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        random = np.random.default_rng(0)
        lines = ["path,split,sea,sky"]
        for k in range(16):
            pixels = random.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((400, 320)).save(folder / f"{k}.jpg")
            lines.append(f"{k}.jpg,{('train', 'train', 'val', 'test')[k % 4]},{k % 2},{k % 3 // 2}")
        (folder / "labels.csv").write_text("\n".join(lines) + "\n")

    def run(self, command: str, *words: object, on_data: bool = True) -> Result:
        """Run a command; `on_data`: it takes the data set's flags."""
        data = ["--dataset", self.folder, "--backbone", "scenesnet", "--data-dir", self.folder / "data"]
        given: Sequence[object] = [command, *(data if on_data else ()), *words]
        return CliRunner().invoke(app, [*map(str, given), "--workers", "0"])

    def extract(self, *words: object) -> Result:
        """Run `labeldep extract`, which must succeed."""
        result = self.run("extract", *words)
        assert result.exit_code == 0, result.stderr
        return result

    def cache(self, split: str) -> FeatureCache:
        """A split's features."""
        return load_features(self.folder, split, backbone="scenesnet", data_dir=self.folder / "data")

    def made(self) -> set[tuple[str, str]]:
        """Preprocessing and compute dtype of each store."""
        stores = FeatureStore.all_in(self.folder / "data" / "features")
        return {(store.kind.preprocessing, store.kind.compute_dtype) for store in stores}


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    """Sixteen photos: eight of train, four of val, four of test."""
    return Photos(tmp_path / "photos")


def test_a_store_says_how_its_features_were_made(photos: Photos) -> None:
    photos.extract()
    assert photos.made() == {(PLAIN, "float32")}
    plain = photos.cache("train").features()
    found = json.loads(photos.extract("--draft", "--precision", "bfloat16", "--json").stdout)
    assert [file["computed"] for file in found["files"]] == [8, 4, 4]
    assert photos.made() == {(PLAIN, "float32"), (DRAFTED, "bfloat16")}
    for store in FeatureStore.all_in(photos.folder / "data" / "features"):
        if store.kind.precision == "float32":
            shutil.rmtree(store.folder)
    assert not np.array_equal(photos.cache("train").features(), plain)
    photos.extract("--no-draft", "--precision", "float32")
    plain_again = load_with(photos, "float32")
    assert np.array_equal(plain_again, plain)


def load_with(photos: Photos, precision: str) -> np.ndarray:
    """The train split's features in the store of a precision."""
    for store in FeatureStore.all_in(photos.folder / "data" / "features"):
        if store.kind.precision != precision:
            shutil.rmtree(store.folder)
    return photos.cache("train").features()


def test_what_was_not_asked_for_is_taken_as_it_is(photos: Photos) -> None:
    photos.extract("--split", "train", "--draft", "--precision", "bfloat16")
    photos.extract()
    assert photos.made() == {(DRAFTED, "bfloat16")}, "the other splits are made like the first"


def test_another_dtype_or_scale_is_computed_beside_what_is_there(photos: Photos) -> None:
    photos.extract("--precision", "bfloat16")
    photos.extract("--precision", "auto")
    assert photos.made() == {(PLAIN, "bfloat16")}
    photos.extract("--precision", "float32")
    photos.extract("--draft", "--precision", "float32")
    assert photos.made() == {
        (PLAIN, "bfloat16"),
        (PLAIN, "float32"),
        (DRAFTED, "float32"),
    }


def test_onnxruntime_computes_what_torch_does(photos: Photos) -> None:
    """To within 1e-3 of the largest feature (they are stored in 16 bits); beside torch's, and goes on with its own."""
    pytest.importorskip("onnxruntime")
    photos.extract()
    own = photos.cache("train").features()
    photos.extract("--engine", "onnxruntime", "--split", "train")
    assert photos.made() == {(PLAIN, "float32"), (PLAIN, "float32 onnxruntime")}
    (torch_s,) = (
        store for store in FeatureStore.all_in(photos.folder / "data" / "features") if store.kind.engine == "torch"
    )
    shutil.rmtree(torch_s.folder)
    found = photos.cache("train").features()
    assert np.abs(found - own).max() <= 1e-3 * np.abs(own).max()
    rest = json.loads(photos.extract("--json").stdout)
    assert [file["computed"] for file in rest["files"]] == [0, 4, 4], "the other splits are computed as the first one"
    assert photos.made() == {(PLAIN, "float32 onnxruntime")}


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--compile",), "--compile is for torch, and --engine onnxruntime is not"),
        (("--precision", "bfloat16"), "--engine onnxruntime computes in float32 on a CPU, not in bfloat16 on cpu"),
    ],
)
def test_what_onnxruntime_does_not_compute(photos: Photos, words: tuple[str, ...], what: str) -> None:
    result = photos.run("extract", "--engine", "onnxruntime", *words)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == f"error: {what}"


def test_an_engine_that_is_not_installed(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "find_spec", lambda name: None if name == "onnxruntime" else object())
    result = photos.run("extract", "--engine", "onnxruntime")
    assert result.exit_code == 1
    assert "--engine onnxruntime needs packages that are not installed: onnxruntime" in result.stderr
    assert "pip install 'labeldep[onnx]'" in result.stderr


@pytest.mark.parametrize("draft", ["--draft", "--no-draft"])
def test_predict_sees_what_training_saw(photos: Photos, draft: str) -> None:
    photos.extract(draft)
    runs = photos.folder / "runs"
    trained = photos.run("pretrain", "--runs-dir", runs, "--steps", 3, "--json")
    assert trained.exit_code == 0, trained.stderr
    (run,) = runs.iterdir()
    test = photos.cache("test")
    words = ["--run", run, "--all", "--json", *(photos.folder / name for name in test.paths)]
    predicted = photos.run("predict", *words, on_data=False)
    assert predicted.exit_code == 0, predicted.stderr
    told: list[dict[str, Any]] = [json.loads(line) for line in predicted.stdout.splitlines()]
    found = np.array([[*one["probabilities"].values()] for one in told])
    expected = _probabilities(run, test)
    other = _probabilities(run, _other(photos, draft))
    assert np.abs(found - expected).max() < 1e-3 < np.abs(found - other).max()


def _other(photos: Photos, draft: str) -> FeatureCache:
    """The test split's features, made in the other way alone."""
    shutil.rmtree(photos.folder / "data" / "features")
    photos.extract("--no-draft" if draft == "--draft" else "--draft", "--split", "test")
    return photos.cache("test")


def _probabilities(run: Path, cache: FeatureCache) -> np.ndarray:
    from labeldep_cli.runs.find import open_run

    head = open_run(str(run), run.parent).head()
    import torch

    with torch.inference_mode():
        logits: np.ndarray = head(torch.from_numpy(cache.features()[:, 0]).float()).sigmoid().numpy()
    return logits


def test_a_run_is_never_scored_on_images_seen_in_another_way(photos: Photos) -> None:
    photos.extract("--draft")
    runs = photos.folder / "runs"
    assert photos.run("pretrain", "--runs-dir", runs, "--steps", 3).exit_code == 0
    shutil.rmtree(photos.folder / "data" / "features")
    photos.extract("--no-draft")
    result = photos.run("eval", "--runs-dir", runs, on_data=False)
    assert result.exit_code == 0 and "features of test are missing: extracting them first" in result.stderr
    assert (DRAFTED, "float32") in photos.made()


class Here(ThreadPoolExecutor):
    """In place of a process of its own, whose start takes seconds."""

    def __init__(self, workers: int, mp_context: object) -> None:
        super().__init__(workers)


def test_the_benchmark_s_table(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(extraction, "BATCH", 1)
    monkeypatch.setattr(extraction, "Machine", lambda *_: Machine("cpu", workers=0))
    monkeypatch.setitem(extraction.VARIANTS, "extract", ExtractConfig(group=1))
    found = extraction.run(photos.folder, "scenesnet", "default", 16, 1, ("extract",))
    assert found["images"] == 16
    assert [*found["measured"]] == ["plain loop", "extract, a quarter of the images", "extract"]
    row = found["measured"]["extract"]
    assert row["over_plain"] == row["images_per_second"] / found["measured"]["plain loop"]["images_per_second"]
    assert row["share_of_forward"] == row["images_per_second"] / row["forward_per_second"]
    assert row["peak_mb"] > 100
    assert all(one["images_per_second"] > 0 for one in found["measured"].values())

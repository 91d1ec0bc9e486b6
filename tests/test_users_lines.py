"""The user's own three lines, as they stand: in a prepared workspace, and in an empty folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from conftest import draw_image
from typer.testing import CliRunner, Result

from labeldep_cli.cli import app
from labeldep_cli.projects.load_features import load_features


def run(line: str) -> Result:
    command, *words = line.split()
    assert command == "labeldep"
    return CliRunner().invoke(app, words)


@pytest.fixture(scope="module")
def torch_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A torch home with the two backbones' published files in place: their names, random contents."""
    home = tmp_path_factory.mktemp("torch")
    checkpoints = home / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    for name in ("resnet101", "resnet152"):
        url = torchvision.models.get_model_weights(name).DEFAULT.url
        network = torchvision.models.get_model(name, zero_init_residual=True)
        torch.save(network.state_dict(), checkpoints / url.rsplit("/", 1)[1])
    return home


def small_coco(shared: Path, data_dir: Path) -> None:
    """The first 8 images of either split of the real ones, with their annotations, in the real layout."""
    for split in ("train2014", "val2014"):
        source = shared / "coco" / "annotations" / f"instances_{split}.json"
        record = json.loads(source.read_text())
        record["images"] = record["images"][:8]
        kept = {image["id"] for image in record["images"]}
        record["annotations"] = [a for a in record["annotations"] if a["image_id"] in kept]
        target = data_dir / "coco" / "annotations" / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(record))
        (data_dir / "coco" / split).symlink_to(shared / "coco" / split)


def test_the_three_lines(
    shared_data: Path, nuswide_folder: Path, torch_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(torch_home))
    small_coco(shared_data, tmp_path / "data")
    (tmp_path / "data" / "nuswide").symlink_to(nuswide_folder / "nuswide")
    draw_image(tmp_path / "img.jpg", 0)

    extracted = run("labeldep extract --backbone resnet152")
    assert extracted.exit_code == 0, extracted.stderr
    train = load_features("coco", backbone="resnet152")
    assert train.features().shape == (7, 1, 2048)
    assert train.store.kind.backbone == "resnet152"

    trained = run("labeldep adversarial --dataset nuswide")
    assert trained.exit_code == 3, "done, but the disk lacks images that the data set lists"
    assert "extracting them first" in trained.stderr
    assert "pretraining first" in trained.stderr
    assert "missing: " in trained.stderr
    assert (tmp_path / "runs" / "nuswide-resnet101-adversarial" / "best.safetensors").exists()

    predicted = run("labeldep predict img.jpg")
    assert predicted.exit_code == 0, predicted.stderr
    assert predicted.stdout.startswith("img.jpg: ")


@pytest.mark.parametrize(
    ("line", "what", "remedies"),
    [
        (
            "labeldep extract --backbone resnet152",
            "coco",
            ["annotations_trainval2014.zip", "train2014.zip", "val2014.zip", "--data-dir"],
        ),
        ("labeldep adversarial --dataset nuswide", "nuswide", ["Groundtruth", "ImageList", "--data-dir"]),
        (
            "labeldep predict img.jpg",
            "there is no trained run in {here}/runs yet",
            ["labeldep adversarial", "labeldep demo"],
        ),
    ],
)
def test_in_an_empty_folder(
    line: str, what: str, remedies: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(line)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert what.format(here=tmp_path) in result.stderr.splitlines()[0]
    assert [remedy for remedy in remedies if remedy not in result.stderr] == []
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_nuswide_by_the_command_line(nuswide_folder: Path) -> None:
    result = CliRunner().invoke(app, ["data", "nuswide", "--data-dir", str(nuswide_folder), "--json"])
    assert result.exit_code == 3, "images that the disk lacks"
    found = json.loads(result.stdout)
    images = {name: split["images"] for name, split in found["splits"].items()}
    assert images["train"] + images["val"] == 150_000
    assert images["test"] == 59_347
    assert len(found["missing"]) == 209_347 - 12
    assert "and 209325 more" in result.stderr


def test_missing_images_are_outside_the_share(nuswide_folder: Path, tmp_path: Path) -> None:
    """Extraction goes on though nearly all images are missing, and its cache holds the four that are there."""
    words = ["--data-dir", str(nuswide_folder), "--features-dir", str(tmp_path), "--split", "test", "--json"]
    small = ["--dataset", "nuswide", "--backbone", "squeezenet1_1", "--weights", "none"]
    result = CliRunner().invoke(app, ["extract", *small, *words])
    assert result.exit_code == 3, result.stderr
    (file,) = json.loads(result.stdout)["files"]
    assert file["rows"] == 59_347
    source = {"backbone": "squeezenet1_1", "weights": "none", "data_dir": nuswide_folder, "features_dir": tmp_path}
    cache = load_features("nuswide", "test", **source)
    assert len(cache.paths) == 59_347
    assert cache.usable.tolist() == [0, 1, 2, 3]
    assert np.isfinite(cache.features()).all()
    assert cache.features().shape == (4, 1, 512)

"""`labeldep backbones`: the table, its JSON, patterns, and what is on this disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from labeldep_cli.cli import app
from labeldep_cli.models import timm_models
from labeldep_cli.models.backbones import find_backbone
from labeldep_cli.models.weights import published_file
from labeldep_cli.pipelines import backbones as listing
from labeldep_cli.pipelines.backbones import list_backbones


@pytest.fixture(autouse=True)
def empty_caches(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def run(*words: str) -> str:
    result = CliRunner().invoke(app, ["backbones", *words])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_a_pattern_in_both_modes():
    (row,) = json.loads(run("shufflenet_v2_x0_5", "--json"))["backbones"]
    assert row == {
        "name": "shufflenet_v2_x0_5",
        "source": "torchvision",
        "features": 1024,
        "parameters": 341_792,
        "image_size": 224,
        "resize": "stretch",
        "published": True,
        "on_disk": False,
    }
    line = next(line for line in run("shufflenet_v2_x0_5").splitlines() if "shufflenet" in line)
    assert line.split() == ["shufflenet_v2_x0_5", "torchvision", "to", "download", "1024", "0.3", "M", "224", "stretch"]


def test_a_pattern_with_a_star_is_a_whole_name():
    names = [row.name for row in list_backbones("REGNETX_002*").rows]
    assert names == ["timm:regnetx_002.pycls_in1k"]
    (row,) = list_backbones("timm:regnetx_002.*").rows
    assert (row.features, row.image_size, row.resize, row.source) == (368, 224, "crop", "timm")


def test_weights_on_this_disk_are_found():
    file = published_file(find_backbone("shufflenet_v2_x0_5")).path
    assert not list_backbones("shufflenet_v2_x0_5").rows[0].on_disk
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    assert list_backbones("shufflenet_v2_x0_5").rows[0].on_disk
    assert list_backbones("scenesnet").rows[0].on_disk, "it comes with the package"
    snapshot = Path(str(timm_hub())) / "models--timm--regnetx_002.pycls_in1k"
    (snapshot / "snapshots" / "0").mkdir(parents=True)
    (snapshot / "refs").mkdir()
    (snapshot / "refs" / "main").write_text("0")
    (snapshot / "snapshots" / "0" / "model.safetensors").write_bytes(b"")
    assert list_backbones("regnetx_002*").rows[0].on_disk


def timm_hub() -> str:
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE


def test_many_matches_are_listed_without_their_sizes():
    found = list_backbones("vit_base")
    assert len(found.rows) > listing.MOST_MEASURED and not found.measured
    assert all(row.parameters is None for row in found.rows)


def test_the_selection_is_known_to_timm():
    import timm

    known = timm.list_pretrained()
    assert all(name.removeprefix("timm:") in known for name in timm_models.RECOMMENDED)


def test_without_timm_only_its_models_are_missing(monkeypatch):
    monkeypatch.setattr(listing, "find_spec", lambda name: None)
    monkeypatch.setattr(listing, "_measured", lambda row: (row.feature_dim, None))
    found = list_backbones(None)
    assert [row.name for row in found.rows][:4] == ["vgg16", "inception_v3", "resnet101", "resnet152"]
    assert [row.source for row in found.rows] == ["paper"] * 4 + ["torchvision", "labeldep"]
    result = CliRunner().invoke(app, ["backbones", "resnet18"])
    assert result.exit_code == 0 and "pip install 'labeldep[timm]'" in result.stderr


def test_nothing_matches():
    result = CliRunner().invoke(app, ["backbones", "resnet181"])
    assert result.exit_code == 1 and "no backbone matches 'resnet181'" in result.stderr
    assert "Did you mean 'resnet18'" in result.stderr

"""`export`: a file that says what the run says, read and run by others than labeldep."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_image
from PIL import Image
from sandbox import LABELS, Sandbox, make_table
from torch import nn

from labeldep_cli.models import export as exported
from labeldep_cli.models.export import FORMATS, Exported, trace
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.registry import HEADS, seeded_head

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[1]
SEES = ("--backbone", "scenesnet", "--workers", 0)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A workspace with a head-mode run, `pets`."""
    sandbox = Sandbox(tmp_path_factory.mktemp("export"))
    make_table(sandbox.table.parent, 20)
    sandbox.json("pretrain", "--dataset", sandbox.table, *SEES, "--steps", 4, "--out", sandbox.folder / "runs" / "pets")
    return sandbox


@pytest.fixture(scope="module")
def onnx_file(sandbox: Sandbox) -> tuple[Path, dict]:
    path = sandbox.folder / "files" / "pets.onnx"
    return path, sandbox.json("export", "pets", "--out", path)


def photo_with_rotation(path: Path) -> Path:
    draw_image(path, 7, (60, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.save(path, exif=exif, quality=95)
    return path


@pytest.mark.parametrize("kind", sorted(HEADS))
@pytest.mark.parametrize("form", sorted(FORMATS))
def test_every_head_answers_alike_for_any_number_of_rows(kind, form):
    shape = (4, 6) if HEADS[kind].spatial else (6,)
    generator = Generator(nn.Identity(), seeded_head(kind, 6, 3, 8, seed=0)).eval()
    content = FORMATS[form].write(trace(Exported(generator), torch.zeros(2, *shape)), "features", "{}")
    for n in (1, 3):
        x = torch.randn(n, *shape, generator=torch.Generator().manual_seed(n))
        with torch.no_grad():
            expected = generator(x).sigmoid().numpy()
        assert FORMATS[form].run(content, x.numpy()) == pytest.approx(expected, abs=1e-5)


def test_what_an_onnx_file_says_of_itself(sandbox, onnx_file):
    path, told = onnx_file
    assert told["file"] == str(path) and told["bytes"] == path.stat().st_size
    assert told["checked"]["rows"] == 4 and told["checked"]["from"] == "images of its test split"
    assert told["checked"]["max_difference"] <= 1e-5
    model = onnx.load(path)
    (facts,) = [json.loads(entry.value) for entry in model.metadata_props if entry.key == "labeldep"]
    assert facts["labels"] == list(LABELS)
    assert facts["thresholds"]["default"] == 0.5 and len(facts["thresholds"]["tuned-per-label"]) == 3
    assert facts["input"] | {"preprocessing": ""} == {
        "name": "images",
        "dtype": "uint8",
        "shape": ["N", 3, 96, 96],
        "preprocessing": "",
    }
    assert "bilinear" in facts["input"]["preprocessing"] and facts["backbone"] == "scenesnet"
    assert facts["provenance"]["stage"] == "pretrain" and len(facts["provenance"]["checkpoint_sha256"]) == 64
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [told["opset"]] == [18]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    content = path.read_bytes()
    assert str(ROOT).encode() not in content and str(sandbox.folder).encode() not in content, "no path of this machine"
    assert [entry.name for entry in path.parent.iterdir()] == ["pets.onnx"], "one file, and nothing beside it"


def test_the_file_s_logits_give_the_confidence_of_predict(sandbox, onnx_file):
    """The metadata's formula in numpy: a product over labels of q or 1 - q, with q = sigmoid(logit / temperature)."""
    session = onnxruntime.InferenceSession(onnx_file[0])
    facts = json.loads(session.get_modelmeta().custom_metadata_map["labeldep"])["confidence"]
    assert set(facts) == {"temperature", "calibrated", "formula", "critic"}
    image = sandbox.table.parent / "img" / "0.png"
    pixels = np.asarray(Image.open(image).convert("RGB").resize((96, 96), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    (logits,) = session.run(["logits"], {"images": pixels[None]})[0].astype(float)
    q = 1 / (1 + np.exp(-logits / facts["temperature"]))
    told = json.loads(sandbox.run("predict", image, "--run", "pets", "--json").stdout)
    assert told["confidence"] == pytest.approx(np.prod(np.where(logits > 0, q, 1 - q)), abs=1e-4)


def test_the_page_s_script_says_what_predict_says_without_torch(sandbox, onnx_file, tmp_path):
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- example-onnx.*?-->\n```python\n(.*?)```", page, re.DOTALL)
    assert len([line for line in block.splitlines() if line]) <= 15
    (tmp_path / "label.py").write_text(block)
    images = [*sorted((sandbox.table.parent / "img").glob("*.png"))[:3], photo_with_rotation(tmp_path / "turned.jpg")]
    check = "import runpy, sys; runpy.run_path('label.py'); sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", check, str(onnx_file[0]), *map(str, images)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    theirs = [json.loads(line) for line in done.stdout.splitlines()]
    told = sandbox.run("predict", *images, "--run", "pets", "--all", "--json", "--threshold", "tuned").stdout
    mine = [json.loads(line) for line in told.splitlines()]
    assert [item["path"] for item in theirs] == [item["path"] for item in mine] == [str(path) for path in images]
    for their, my in zip(theirs, mine, strict=True):
        assert their["probabilities"] == pytest.approx(my["probabilities"], abs=1e-5)
        assert set(their["labels"]) == {label["label"] for label in my["labels"]}


def test_torch_s_file_needs_only_torch(sandbox, tmp_path):
    path = tmp_path / "pets.pt2"
    told = sandbox.json("export", "pets", "--format", "torch", "--out", path)
    assert told["checked"]["max_difference"] <= 1e-5 and told["opset"] is None
    extra = {"labeldep.json": ""}
    program = torch.export.load(io.BytesIO(path.read_bytes()), extra_files=extra)
    facts = json.loads(extra["labeldep.json"])
    assert facts == {name: told[name] for name in facts}
    for n in (1, 3):
        p, logits = program.module()(torch.zeros(n, 3, 96, 96, dtype=torch.uint8))
        assert p.shape == (n, 3)
        torch.testing.assert_close(p, logits.sigmoid())
    assert str(ROOT).encode() not in path.read_bytes()


def test_a_full_run_with_regions(sandbox, tmp_path):
    run = sandbox.folder / "runs" / "whole"
    quick = ("--full", "--steps", 2, "--batch-size", 4, "--head", "rlsd", "--hidden", 8)
    sandbox.json("pretrain", "--dataset", sandbox.table, *SEES, *quick, "--out", run)
    told = sandbox.json("export", "whole", "--out", tmp_path / "whole.onnx")
    assert told["head"] == "rlsd" and told["provenance"]["full"] is True
    assert told["checked"]["max_difference"] <= 1e-5


def test_a_run_on_ready_features_whose_data_are_gone(sandbox, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 7)).astype(np.float32), rng.integers(0, 2, (60, 2)).astype(np.int8)
    data = tmp_path / "x.npz"
    np.savez(data, X=x, Y=y, label_names=np.array(["a", "b"]))
    run = tmp_path / "ready"
    sandbox.json("pretrain", "--dataset", data, "--steps", 4, "--hidden", 5, "--out", run)
    there = sandbox.json("export", run, "--out", tmp_path / "there.onnx")
    assert there["checked"]["from"] == "feature rows of its test split" and there["checked"]["rows"] == 13
    data.unlink()
    result = sandbox.run("export", run, "--out", tmp_path / "gone.onnx", "--json")
    told = json.loads(result.stdout)
    assert "is not available" in result.stderr
    assert told["checked"]["from"] == "random feature rows" and told["checked"]["max_difference"] <= 1e-5
    assert told["input"]["name"] == "features" and told["input"]["shape"] == ["N", 7]
    assert (tmp_path / "gone.onnx").read_bytes() == (tmp_path / "there.onnx").read_bytes()


@pytest.mark.parametrize(("factor", "told"), [(0.999, r"0\.000\d+"), (float("nan"), "nan")])
def test_a_file_that_says_something_else_is_not_written(sandbox, tmp_path, monkeypatch, factor, told):
    def astray(self, x):
        p, logits = honest(self, x)
        return p * factor, logits

    honest = Exported.forward
    monkeypatch.setattr(Exported, "forward", astray)
    path = tmp_path / "model.onnx"
    path.write_text("what was there")
    result = sandbox.run("export", "pets", "--out", path)
    assert result.exit_code == 1 and result.stdout == ""
    assert re.search(f"error: the onnx file's probabilities differ from the run's by up to {told}", result.stderr)
    assert "was not written" in result.stderr and path.read_text() == "what was there"
    assert list(tmp_path.iterdir()) == [path]


def test_a_network_that_the_exporter_cannot_write_is_an_error_that_names_the_other_format(
    sandbox, tmp_path, monkeypatch
):
    def fail(*_, **__):
        raise RuntimeError("no translation of aten.strange\nand 500 lines more")

    monkeypatch.setattr(torch.onnx, "export", fail)
    result = sandbox.run("export", "pets", "--out", tmp_path / "model.onnx")
    assert (
        result.exit_code == 1 and "cannot write this network as ONNX: no translation of aten.strange" in result.stderr
    )
    assert "500 lines" not in result.stderr and "Use --format torch" in result.stderr


def test_the_extra_is_named_where_it_is_missing(sandbox, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    result = sandbox.run("export", "pets", "--out", tmp_path / "model.onnx")
    assert result.exit_code == 1
    assert "--format onnx needs packages that are not installed: onnxscript" in result.stderr
    assert "pip install 'labeldep[onnx]'" in result.stderr


def test_more_than_one_onnx_file_holds_is_refused(sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(exported, "_MOST_BYTES", 1000)
    result = sandbox.run("export", "pets", "--out", tmp_path / "model.onnx")
    assert result.exit_code == 1 and "Use --format torch." in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_name_is_the_run_s_and_the_words_say_what_came_of_it(sandbox, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = sandbox.run("export", "pets", "--format", "torch")
    assert result.exit_code == 0, result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["pets.pt2"]
    assert result.stdout.startswith("pets.pt2: ")
    assert "images uint8 [N, 3, 96, 96] -> probabilities [N, 3]" in result.stdout
    assert "largest difference to the run's own probabilities: " in result.stdout

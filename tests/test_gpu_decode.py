"""JPEGs decoded by a GPU: what goes there, what the CPU takes over, and who says so; on the simulated device.

nvJPEG itself is replaced by Pillow here. tests/gpu runs it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_image
from on_device import CUDA, simulated_cuda
from PIL import Image
from test_extraction import Photos
from typer.testing import CliRunner

import labeldep_cli
from labeldep_cli.cli import app
from labeldep_cli.errors import LabeldepError
from labeldep_cli.features import gpu_decode
from labeldep_cli.features.decode import decode
from labeldep_cli.features.framing import Framing
from labeldep_cli.features.gpu_decode import (
    cut_on_device,
    decode_on_gpu,
    decode_on_gpu_here,
    jpeg_for_gpu,
    require_nvjpeg,
    require_stretch,
    upright,
)
from labeldep_cli.features.pixel_rules import USUAL_RULES
from labeldep_cli.features.reasons import Reason
from labeldep_cli.features.views import N_VIEWS, cut
from labeldep_cli.models.backbones import find_backbone
from labeldep_cli.pipelines import export as exporting
from labeldep_cli.runs.find import open_run

SIDE = 64
PREPROCESSING = find_backbone("scenesnet").preprocessing(USUAL_RULES, "gpu")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[list[bytes]]:
    """The JPEGs of each call of nvJPEG, by Pillow; it refuses progressive ones."""
    calls: list[list[bytes]] = []

    def by_pillow(contents: Sequence[bytes], device: torch.device) -> list[torch.Tensor]:
        calls.append(list(contents))
        images = [Image.open(io.BytesIO(content)) for content in contents]
        if any(image.info.get("progressive") for image in images):
            raise RuntimeError("nvJPEG refuses one of them")
        return [torch.from_numpy(np.array(image)).permute(2, 0, 1).to(device) for image in images]

    monkeypatch.setattr(gpu_decode, "nvjpeg", by_pillow)
    return calls


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Images of all kinds, by what they are."""
    folder = tmp_path_factory.mktemp("kinds")
    plain = Image.open(draw_image(folder / "drawn.png", 1, (90, 70))).convert("RGB")
    tag = Image.Exif()
    tag[0x0112] = 6
    plain.save(folder / "plain.jpg", quality=92)
    plain.save(folder / "turned.jpg", exif=tag)
    plain.save(folder / "progressive.jpg", progressive=True)
    plain.convert("L").save(folder / "grey.jpg")
    plain.convert("CMYK").save(folder / "cmyk.jpg")
    plain.save(folder / "stored-as-rgb.jpg", keep_rgb=True)
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(folder / "deep.png")
    content = (folder / "plain.jpg").read_bytes()
    (folder / "cut-off.jpg").write_bytes(content[: len(content) // 2])
    (folder / "padded.jpg").write_bytes(content + b"\0\0")
    (folder / "no-image.jpg").write_bytes(b"\xff\xd8 no image \xff\xd9")
    return {path.stem: path for path in sorted(folder.iterdir())} | {"missing": folder / "none.jpg"}


TO_GPU = {"plain", "turned", "progressive", "padded"}


def test_what_nvjpeg_may_read_otherwise_stays_with_the_cpu(images: dict[str, Path]) -> None:
    known = {name: path.read_bytes() for name, path in images.items() if path.exists()}
    assert {name for name, content in known.items() if jpeg_for_gpu(content, images[name], (0,))} == TO_GPU
    assert jpeg_for_gpu(known["turned"], images["turned"], (0,)).orientation == 6


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("views", [(0,), (0, 3, 20)])
def test_a_batch_of_all_kinds_is_the_cpu_s(
    images: dict[str, Path], sent: list[list[bytes]], workers: int, views: tuple[int, ...]
) -> None:
    batch = [(path, views) for path in images.values()]
    (mine,) = decode(Path, [batch], Framing(SIDE), USUAL_RULES, 0, identify=True)
    with simulated_cuda():
        theirs = decode_on_gpu(Path, [batch], Framing(SIDE), USUAL_RULES, workers, 2, CUDA, identify=True)
        (found,) = theirs
        assert found.images.device == CUDA and found.images.shape == mine.images.shape
        assert torch.equal(found.images.cpu(), mine.images)
        assert found.images[:, 0].cpu().is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found.reasons, mine.reasons) and found.identities == mine.identities
    assert sent[1:] == [[path.read_bytes() for name, path in images.items() if name in TO_GPU], *map(list, sent[2:])]
    assert [len(call) for call in sent[2:]] == [1] * len(TO_GPU), "one by one, since one of them failed"


def test_what_nvjpeg_refuses_and_pillow_too_has_its_reason(monkeypatch, images: dict[str, Path]) -> None:
    """Data that are damaged in their middle, behind a good header."""
    content = bytearray(images["plain"].read_bytes())
    start = content.index(b"\xff\xc4")  # the Huffman tables
    content[start + 4 : start + 40] = bytes(36)
    broken = images["plain"].with_name("damaged.jpeg")
    broken.write_bytes(content)

    def refuses(contents: Sequence[bytes], device: torch.device) -> list[torch.Tensor]:
        raise RuntimeError("bad JPEG")

    monkeypatch.setattr(gpu_decode, "require_nvjpeg", lambda device: None)
    monkeypatch.setattr(gpu_decode, "nvjpeg", refuses)
    assert jpeg_for_gpu(bytes(content), broken, (0,)) is not None
    with simulated_cuda():
        both = [(broken, (0,)), (images["plain"], (0,))]
        found = decode_on_gpu_here(Path, both, Framing(SIDE), USUAL_RULES, CUDA)
        assert found.reasons.tolist() == [Reason.BROKEN, 0] and not found.images[0].cpu().any()
        assert found.images[1].cpu().any()
        alone = decode_on_gpu_here(Path, both[:1], Framing(SIDE), USUAL_RULES, CUDA)
    assert alone.reasons.tolist() == [Reason.BROKEN] and not alone.images.numel()


def test_large_images_are_decoded_in_parts(monkeypatch, images: dict[str, Path], sent: list[list[bytes]]) -> None:
    monkeypatch.setattr(gpu_decode, "_PIXELS", 2 * 90 * 70)
    with simulated_cuda():
        decode_on_gpu_here(Path, [(images["plain"], (0,))] * 5, Framing(SIDE), USUAL_RULES, CUDA)
    assert [len(call) for call in sent[1:]] == [2, 2, 1]


def test_a_gpu_without_memory_is_no_damaged_image(monkeypatch, images: dict[str, Path]) -> None:
    def full(contents: Sequence[bytes], device: torch.device) -> list[torch.Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(gpu_decode, "nvjpeg", full)
    with simulated_cuda(), pytest.raises(torch.OutOfMemoryError):
        decode_on_gpu_here(Path, [(images["plain"], (0,))], Framing(SIDE), USUAL_RULES, CUDA)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tensor_is_turned_as_pillow_turns(orientation: int, tmp_path: Path) -> None:
    tag = Image.Exif()
    tag[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=tag)
    (expected,) = decode(Path, [[(tmp_path / "a.png", (0,))]], Framing(7), USUAL_RULES, 0)
    turned = upright(torch.from_numpy(pixels).permute(2, 0, 1), orientation)
    assert torch.equal(cut_on_device(turned, (0,), Framing(7)), expected.images[0])


@pytest.mark.parametrize("framing", [Framing(96), Framing(250)])
def test_all_views_are_cut_as_pillow_cuts(framing: Framing) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 410, 3), dtype=np.uint8)
    views = tuple(range(N_VIEWS))
    expected = cut(Image.fromarray(pixels), views, framing)
    assert (cut_on_device(torch.from_numpy(pixels).permute(2, 0, 1), views, framing).numpy() == expected).all()


def test_other_framings_are_refused() -> None:
    for framing in (Framing(96, "crop"), Framing(96, "pad"), Framing(96, interpolation="bicubic")):
        with pytest.raises(LabeldepError, match="scales whole images by the bilinear filter"):
            require_stretch(framing)


def test_a_device_without_nvjpeg_is_refused(monkeypatch) -> None:
    for device in ("cpu", "mps:0"):
        with pytest.raises(LabeldepError, match=rf"--decode gpu\), but the device is {device}") as refused:
            require_nvjpeg(torch.device(device))
        assert "--decode cpu" in refused.value.remedy
    with pytest.raises(LabeldepError, match=r"nvJPEG \(--decode gpu\) does not work on cuda:0: .+"):
        require_nvjpeg(CUDA)  # the real one, which finds no GPU here


# ------------------------------------------------------------------------------------------------------- whole commands


class OnGpu(Photos):
    """Photos whose commands run on the simulated device, without processes."""

    def extract(self, *words: object) -> str:
        with simulated_cuda():
            result = self.run("extract", *words, "--device", "cuda")
        assert result.exit_code == 0, result.stderr
        return result.stderr


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> OnGpu:
    return OnGpu(tmp_path_factory.mktemp("on-gpu") / "photos")


@pytest.fixture
def run(photos: OnGpu, sent: list[list[bytes]]) -> Iterator[Path]:
    """A run on features of JPEGs that the GPU decoded."""
    folder = photos.folder / "runs" / "one"
    if not folder.exists():
        photos.extract("--decode", "gpu")
        assert sum(len(call) for call in sent) == 16 + 4, "16 photos; a look at nvJPEG first, and for each split"
        with simulated_cuda():
            words = ("--steps", 3, "--out", folder, "--device", "cuda")
            trained = photos.run("pretrain", "--runs-dir", folder.parent, *words)
        assert trained.exit_code == 0, trained.stderr
    sent.clear()
    return folder


def test_features_say_that_a_gpu_decoded_and_other_splits_follow(photos: OnGpu, run: Path, sent) -> None:
    assert photos.made() == {(PREPROCESSING, "float16")}
    assert open_run(str(run), run.parent).jpegs == "gpu"
    told = photos.extract("--fresh", "--split", "val")
    assert sum(len(call) for call in sent) == 4 + 1, told
    photos.extract("--decode", "cpu")
    assert {words for words, _ in photos.made()} == {
        PREPROCESSING,
        find_backbone("scenesnet").preprocessing(USUAL_RULES),
    }


def test_predict_sees_what_training_saw(photos: OnGpu, run: Path, sent) -> None:
    images = [photos.folder / f"{k}.jpg" for k in range(16)]
    words = ("--run", run, "--all", "--json", *images)
    with simulated_cuda():
        on_gpu = photos.run("predict", *words, "--device", "cuda", on_data=False)
        lines = "".join(json.dumps({"path": str(image)}) + "\n" for image in images[:2]).encode()
        call = ["predict", "--stdin-json", "--all", "--run", str(run), "--device", "cuda"]
        served = CliRunner().invoke(app, call, input=lines)
        model = labeldep_cli.load(run, device="cuda")
        loaded = model.predict(images[:2])
    assert on_gpu.exit_code == 0 and sum(len(call) for call in sent) == 16 + 1 + 2 * (1 + 1) + 2 * (1 + 1)
    told = [json.loads(line)["probabilities"] for line in on_gpu.stdout.splitlines()]
    for answers in (
        [json.loads(line)["probabilities"] for line in served.stdout.splitlines()],
        [one.probabilities for one in loaded],
    ):
        assert len(answers) == 2
        for one, other in zip(answers, told[:2], strict=True):
            assert one == pytest.approx(other, abs=1e-3)


def test_on_a_cpu_predict_decodes_itself_and_says_so(photos: OnGpu, run: Path, sent) -> None:
    words = ("--run", run, "--json", photos.folder / "0.jpg", "--device", "cpu")
    result = photos.run("predict", *words, on_data=False)
    assert result.exit_code == 0 and not sent
    assert "was trained on JPEGs decoded by a GPU: the CPU decodes them a little differently" in " ".join(
        result.stderr.split()
    )
    assert "JPEGs decoded by nvJPEG" in exporting._preprocessing(open_run(str(run), run.parent))
    scored = photos.run("eval", run, "--json", "--device", "cpu", on_data=False)
    assert scored.exit_code == 0, "the features are there"


def test_full_mode_trains_on_what_the_gpu_decodes(photos: OnGpu, run: Path, sent) -> None:
    with simulated_cuda():
        words = ("--steps", 1, "--batch-size", 4, "--out", photos.folder / "full", "--device", "cuda")
        trained = photos.run("pretrain", "--full", "--runs-dir", photos.folder / "runs", *words)
    assert trained.exit_code == 0, trained.stderr
    assert sum(len(call) for call in sent) > 4
    refused = photos.run("eval", photos.folder / "full", "--device", "cpu", on_data=False)
    assert refused.exit_code == 1 and "the device is cpu" in refused.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--decode", "gpu", "--device", "cpu"), "the device is cpu"),
        (("--decode", "gpu", "--draft", "--device", "cpu"), "--draft is for decoding by the CPU"),
    ],
)
def test_flags_that_do_not_go_together(photos: OnGpu, words: tuple[str, ...], told: str) -> None:
    refused = photos.run("extract", *words)
    assert refused.exit_code == 1 and told in refused.stderr

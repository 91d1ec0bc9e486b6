"""How an image becomes the square that a backbone takes: stretched, cropped or padded, at any size."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from labeldep_cli.errors import BackboneError
from labeldep_cli.features.decode import decode_here
from labeldep_cli.features.framing import PAPER_FRAMING, Framing
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.features.views import crop_box, cut
from labeldep_cli.models.backbones import Backbone, find_backbone, frame_of

SHAPES = [(300, 200), (200, 300), (97, 301), (224, 224), (40, 30)]


@pytest.fixture(params=SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def image(request) -> Image.Image:
    width, height = request.param
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


class TestPixels:
    """The oracles are the transforms with which the networks were trained."""

    @pytest.mark.parametrize("share", [0.875, 0.9, 1.0])
    @pytest.mark.parametrize("mode", ["center", "squash"])
    def test_crop_and_stretch_are_timm_s_transforms(self, image, mode, share):
        from timm.data import create_transform

        transform = create_transform(
            (3, 64, 64), interpolation="bicubic", crop_pct=share, crop_mode=mode, normalize=False, is_training=False
        )
        expected = np.asarray(transform(image))
        framing = Framing(64, "crop" if mode == "center" else "stretch", "bicubic", share)
        np.testing.assert_array_equal(cut(image, (0,), framing)[0], expected)

    def test_crop_is_torchvision_s_usual_transform(self, image):
        from torchvision.transforms import CenterCrop, Compose, Resize

        expected = Compose([Resize(256), CenterCrop(224)])(image)
        framing = PAPER_FRAMING.changed(None, "crop")
        np.testing.assert_array_equal(np.asarray(framing.frame(image)), np.asarray(expected))

    @pytest.mark.parametrize("side", [64, 448])
    def test_pad_keeps_the_whole_image_between_bands_of_the_background(self, image, side):
        red = (255, 0, 0)
        framed = Framing(side, "pad").frame(image, red)
        width, height = (max(round(length * side / max(image.size)), 1) for length in image.size)
        left, top = (side - width) // 2, (side - height) // 2
        inside = framed.crop((left, top, left + width, top + height))
        expected = image.resize((width, height), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(np.asarray(inside), np.asarray(expected))
        outside = np.array(framed)
        outside[top : top + height, left : left + width] = red
        assert (outside == red).all()

    def test_a_strip_neither_fills_the_memory_nor_disappears(self):
        strip = Image.new("RGB", (20_000, 2), (10, 20, 30))
        for resize in ("stretch", "crop"):
            assert Framing(32, resize).frame(strip).getcolors() == [(32 * 32, (10, 20, 30))]
        colours = dict(map(reversed, Framing(32, "pad").frame(strip).getcolors()))
        assert colours == {(10, 20, 30): 32, (255, 255, 255): 31 * 32}

    def test_bands_have_the_colour_of_the_rules(self, tmp_path):
        Image.new("RGB", (8, 4), (9, 9, 9)).save(tmp_path / "a.png")
        rules = PixelRules(background="#ff0000")
        decoded = decode_here(lambda _: tmp_path / "a.png", [(0, (0, 5))], Framing(8, "pad"), rules)
        assert (
            decoded.images[0, 0, :, 0, 0].tolist() == [255, 0, 0] and decoded.images[0, 0, :, 4, 4].tolist() == [9] * 3
        )
        assert decoded.images[0, 1, :, 0, 0].tolist() == [255, 0, 0], "the crops are cut from the framed square"


class TestCrops:
    def test_up_to_224_pixels_they_are_cut_from_256(self):
        assert [Framing(side).for_crops.side for side in (32, 96, 224)] == [256] * 3

    def test_above_they_grow_with_the_side(self):
        larger = Framing(448).for_crops
        assert larger.side == 512 and Framing(448, "crop").for_crops.resize == "crop"
        for view in range(1, 21):
            assert crop_box(view, 512) == tuple(2 * edge for edge in crop_box(view))

    @pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
    def test_they_are_scaled_with_the_framing_s_filter(self, image, resize):
        framing = Framing(448, resize, "bicubic", 0.9 if resize == "crop" else 1.0)
        square = framing.for_crops.frame(image)
        expected = square.crop(crop_box(7, 512)).resize((448, 448), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(cut(image, (7,), framing)[0].transpose(1, 2, 0), np.asarray(expected))


class TestIdentity:
    def test_words_tell_framings_apart(self):
        framings = [
            Framing(side, resize, interpolation, share)
            for side in (96, 224, 448)
            for resize in ("stretch", "crop", "pad")
            for interpolation in ("bilinear", "bicubic")
            for share in (0.875, 1.0)
        ]
        assert len({framing.words for framing in framings}) == len(framings)
        assert Framing(448).words == "pillow bilinear 448x448 crops of 512"
        assert Framing(96, "crop", "bicubic", 0.875).words == "pillow bicubic 96x96 cropped to 0.875"

    @pytest.mark.parametrize("jpegs", ["full", "draft", "gpu"])
    @pytest.mark.parametrize("frame", [(None, None), (448, None), (None, "pad"), (96, "crop")])
    def test_a_store_s_words_give_the_flags_back(self, frame, jpegs):
        row = find_backbone("squeezenet1_1")
        words = row.framed(*frame).preprocessing(PixelRules(background="#102030"), jpegs)
        assert frame_of(row, words) == frame
        assert frame_of(row, words.replace("bilinear", "lanczos")) is None

    def test_nothing_named_changes_nothing(self):
        row = find_backbone("resnet101")
        assert row.framed(None, None) == row == row.framed(224, "stretch")

    def test_a_share_belongs_to_its_resizing(self):
        cropped = Framing(224, "crop", "bicubic", 0.9)
        assert cropped.changed(448, None) == Framing(448, "crop", "bicubic", 0.9)
        assert cropped.changed(None, "stretch") == Framing(224, "stretch", "bicubic", 1.0)
        assert PAPER_FRAMING.changed(None, "crop").crop_share == 0.875


def test_draft_keeps_the_pixels_that_are_needed(tmp_path):
    Image.fromarray(np.zeros((800, 1200, 3), np.uint8)).save(tmp_path / "a.jpg")
    for framing in (Framing(100, "crop", crop_share=0.5), Framing(200), Framing(180, "pad")):
        plain = decode_here(lambda _: tmp_path / "a.jpg", [(0, (0, 3))], framing, PixelRules(), draft=True)
        assert plain.images.shape == (1, 2, 3, framing.side, framing.side) and not plain.reasons.any()


class TestNetworksOfOneSize:
    """torchvision's transformers are built for an image size; their weights are interpolated to another one."""

    def test_position_embeddings_are_interpolated(self, tmp_path, monkeypatch):
        import torch
        import torchvision
        from torchvision.models.vision_transformer import VisionTransformer

        from labeldep_cli.models.loading import load_backbone
        from labeldep_cli.models.weights import locate_weights
        from labeldep_cli.progress import SilentReporter

        def tiny(name, weights, image_size):
            torch.manual_seed(1)
            return VisionTransformer(image_size, 16, 1, 2, 8, 16, num_classes=3)

        monkeypatch.setattr(torchvision.models, "get_model", tiny)
        network = tiny("", None, 32)
        torch.save(network.state_dict(), tmp_path / "vit.pth")
        for side in (32, 64):
            row = Backbone("vit_b_16", framing=Framing(side))
            module = load_backbone(row, locate_weights(row, str(tmp_path / "vit.pth")), SilentReporter()).module
            assert module.encoder.pos_embedding.shape == (1, (side // 16) ** 2 + 1, 8)
            assert torch.equal(module.encoder.pos_embedding[:, :1], network.encoder.pos_embedding[:, :1])
        assert module(torch.zeros(1, 3, 64, 64)).shape == (1, 8)

    def test_a_size_that_the_network_cannot_take(self):
        from labeldep_cli.models.backbones import classifier
        from labeldep_cli.models.loading import load_backbone
        from labeldep_cli.models.weights import locate_weights
        from labeldep_cli.progress import SilentReporter

        with pytest.raises(BackboneError, match="vit_b_16 cannot take images of 100 x 100 pixels: Input shape indivis"):
            classifier(find_backbone("vit_b_16").framed(100, None))
        row = find_backbone("squeezenet1_1").framed(8, None)
        with pytest.raises(BackboneError, match="squeezenet1_1 cannot take images of 8 x 8 pixels") as caught:
            load_backbone(row, locate_weights(row, "none"), SilentReporter())
        assert "--image-size" in caught.value.remedy

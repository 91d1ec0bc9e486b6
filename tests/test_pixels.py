"""More than 8 bits, transparency, and what is no photo: right in 8 bits, or refused with the true reason."""

from __future__ import annotations

import base64
import io
import os
import resource
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_image
from PIL import Image

from benchmarks.pixels import chunk, forms_of, png, tiff, written
from labeldep_cli.config import Source
from labeldep_cli.config.reading import read_value_range
from labeldep_cli.datasets.image_file import InMemory
from labeldep_cli.features import images
from labeldep_cli.features.deep import Values
from labeldep_cli.features.images import UnreadableImage, as_rgb, read_image, still_holds
from labeldep_cli.features.pixel_rules import USUAL_RULES, PixelRules
from labeldep_cli.features.pixels import PixelFacts, PixelReport, facts_of
from labeldep_cli.features.reasons import Reason, reason_of_content
from labeldep_cli.features.value_ranges import suggested_range

RAMP = np.arange(65536).reshape(256, 256)


def seen(content: bytes, value_range: str | None = None, background: str = "white") -> np.ndarray:
    return np.asarray(read_image(InMemory(content), PixelRules(value_range, background))).astype(int)


def refusal(content: bytes | Path, rules: PixelRules = USUAL_RULES) -> UnreadableImage:
    with pytest.raises(UnreadableImage) as caught:
        read_image(InMemory(content) if isinstance(content, bytes) else content, rules)
    return caught.value


class TestMoreThan8Bits:
    def test_16_bits_are_scaled_not_clipped(self):
        pixels = seen(written(RAMP, np.uint16, "PNG"))
        assert (pixels == pixels[..., :1]).all()  # grey
        np.testing.assert_array_equal(pixels[..., 0], np.round(RAMP / 257))  # 65535 / 255 = 257

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize(
        ("kind", "value_range", "values", "levels"),
        [
            (np.uint16, "0,4095", [0, 819, 4095, 4096, 65535], [0, 51, 255, 255, 255]),  # 819 = 4095 / 5
            (np.uint16, "1000,2020", [0, 1000, 1204, 2020, 3000], [0, 0, 51, 255, 255]),
            (np.int16, "-1024,3071", [-2000, -1024, -205, 3071, 4000], [0, 0, 51, 255, 255]),
            (np.int32, "0,255", [-1, 0, 51, 255, 70000], [0, 0, 51, 255, 255]),
            (np.float32, "0,255", [0, 0.6, 51, 255, 300], [0, 1, 51, 255, 255]),
            (np.float32, "-1,1", [-2, -1, -0.6, 1, np.inf], [0, 0, 51, 255, 255]),
            (np.float32, "0,1", [np.nan, -np.inf, 0.2, 1, np.inf], [0, 0, 51, 255, 255]),
        ],
    )
    def test_a_named_range_holds_for_every_type_and_byte_order(self, kind, value_range, values, levels, order):
        content = tiff(np.array([values]), kind, order=order)
        assert seen(content, value_range)[0, :, 0].tolist() == levels

    def test_unsigned_integers_of_32_bits(self):
        content = tiff(np.array([[0, 858993459, 4294967295]]), np.uint32)
        assert seen(content, "0,4294967295")[0, :, 0].tolist() == [0, 51, 255]

    @pytest.mark.parametrize(
        "layout", ["png", "tiff", "tiff with a fourth band", "big-endian tiff", "deflated", "big-endian deflated"]
    )
    @pytest.mark.parametrize(("factor", "value_range"), [(257, None), (16, "0,4080"), (1, "0,255")])
    def test_colour_keeps_the_low_byte_that_pillow_drops(self, layout, factor, value_range):
        rgb = np.random.default_rng(0).integers(0, 256, (6, 9, 3))
        rgb[0, 0] = 255
        deep = rgb * factor
        content = {
            "png": lambda: png(deep.astype(np.uint16)),
            "tiff": lambda: tiff(deep, np.uint16),
            "tiff with a fourth band": lambda: tiff(np.dstack([deep, deep[..., 0] * 0]), np.uint16),
            "big-endian tiff": lambda: tiff(deep, np.uint16, order=">"),
            "deflated": lambda: tiff(deep, np.uint16, layout="deflated"),
            "big-endian deflated": lambda: tiff(deep, np.uint16, order=">", layout="deflated"),
        }[layout]()
        np.testing.assert_array_equal(seen(content, value_range), rgb)

    def test_grey_and_colour_with_alpha(self):
        """The left pixel is transparent."""
        grey = np.array([[[4000, 0], [2048, 65535]]], np.uint16)
        assert seen(png(grey), "0,4096")[0, :, 0].tolist() == [255, 128]
        colour = np.array([[[4000, 4000, 4000, 0], [0, 2048, 4096, 65535]]], np.uint16)
        assert seen(png(colour), "0,4096", "black")[0].tolist() == [[0, 0, 0], [0, 128, 255]]

    def test_one_transparent_value(self):
        key = chunk(b"tRNS", (65535).to_bytes(2, "big") * 3)
        content = png(np.array([[[65535] * 3, [65535, 65535, 65534]]], np.uint16), key)
        assert seen(content, background="black")[0].tolist() == [[0, 0, 0], [255, 255, 255]]

    def test_white_may_be_the_lowest_value(self):
        content = tiff(np.array([[0, 65535]]), np.uint16, min_is_white=True)
        assert seen(content)[0, :, 0].tolist() == [255, 0]

    def test_a_pgm_tells_its_own_range(self):
        content = b"P5\n2 1\n4095\n" + np.array([819, 4095], ">u2").tobytes()
        assert seen(content)[0, :, 0].tolist() == [51, 255]
        assert seen(content, "0,8190")[0, :, 0].tolist() == [26, 128]  # 25.5 and 127.5

    @pytest.mark.parametrize(
        ("values", "kind"),
        [
            ([0, 4080], np.uint16),  # 12 bits in 16
            ([0, 16383], np.uint16),
            ([0, 255], np.int32),
            ([-1000, 30000], np.int16),
            ([0, 255], np.float32),
            ([0.0, 1.0, 1.3, 1.3], np.float32),
        ],
    )
    def test_an_unclear_range_is_refused_with_what_was_measured(self, values, kind):
        unreadable = refusal(tiff(np.array([values]), kind))
        assert unreadable.reason == Reason.NO_VALUE_RANGE
        expected = np.array([min(values), max(values)], np.float32)
        np.testing.assert_array_equal(np.float32(unreadable.values[:2]), expected)

    def test_colours_of_12_bits_are_refused(self):
        content = tiff(np.full((2, 2, 3), 4080), np.uint16)
        assert refusal(content).values == Values(4080, 4080, whole=True)

    def test_an_overexposed_pixel_does_not_darken_floats(self):
        unit = np.linspace(0, 1, 1000).reshape(20, 50)
        bright = unit.copy()
        bright[0, 0] = 1.02
        difference = np.abs(seen(tiff(bright, np.float32)) - seen(tiff(unit, np.float32)))
        assert difference[0, 0, 0] == 255 and not difference[1:].any()

    def test_a_nan_is_black_and_an_inf_white(self):
        assert seen(tiff(np.array([[0.0, 0.2, 1.0, np.nan, np.inf]]), np.float32))[0, :, 0].tolist() == [
            0, 51, 255, 0, 255,
        ]  # fmt: skip

    def test_16_bits_band_by_band_are_refused(self):
        """Pillow takes the bytes of each band for pixels."""
        assert refusal(tiff(np.full((4, 4, 3), 65535), np.uint16, layout="bands")).reason == Reason.OTHER_TIFF
        assert (seen(tiff(np.full((4, 4, 3), 200), np.uint8, layout="bands")) == 200).all()

    def test_signed_integers_of_8_bits_are_refused(self):
        """Pillow takes -1 for 255."""
        assert refusal(tiff(np.array([[-128, -1, 0, 127]]), np.int8)).reason == Reason.OTHER_TIFF

    @pytest.mark.parametrize(("factor", "value_range"), [(257, None), (16, "0,4080")])
    def test_colours_that_are_multiplied_by_alpha(self, factor, value_range):
        deep = np.array([[[100, 50, 0, 128], [200, 0, 10, 255], [0, 0, 0, 0]]]) * factor
        deep[..., 3] = np.array([128, 255, 0]) * 257
        expected = [[199, 100, 0], [200, 0, 10], [0, 0, 0]]  # 199 = 100 * 255 / 128
        pixels = seen(tiff(deep, np.uint16, alpha=1), value_range, "black")[0]
        np.testing.assert_allclose(pixels[1:], expected[1:], atol=1)
        np.testing.assert_allclose(pixels[0], [100, 50, 0], atol=1)  # half of it, on black

    def test_a_pil_image_of_integers_has_no_format(self):
        image = Image.fromarray(np.array([[0, 70_000, 140_000]], np.int32))
        assert np.asarray(as_rgb(image, PixelRules("0,140000"))[0])[0, :, 0].tolist() == [0, 128, 255]

    @pytest.mark.parametrize("bands", [5, 6])
    def test_more_bands_are_refused(self, bands):
        assert refusal(tiff(np.zeros((2, 2, bands)), np.uint8)).reason == Reason.OTHER_TIFF

    @pytest.mark.parametrize(("bands", "kind"), [(3, np.float32), (1, np.float64), (1, np.float16)])
    def test_floats_that_pillow_does_not_read_are_refused(self, bands, kind):
        assert refusal(tiff(np.zeros((2, 2, bands)), kind)).reason == Reason.OTHER_TIFF

    def test_a_pil_image_is_read_by_the_same_rules(self, tmp_path):
        (tmp_path / "a.png").write_bytes(png(np.full((2, 2, 3), 2040, np.uint16)))
        with Image.open(tmp_path / "a.png") as image:
            rgb, values = as_rgb(image, PixelRules("0,4080"))
        assert rgb.getpixel((0, 0)) == (128, 128, 128) and values == Values(2040, 2040, whole=True)

    def test_every_form_of_a_photo_gives_the_photo(self, tmp_path):
        photo = Image.open(draw_image(tmp_path / "a.png", 0, (320, 224))).convert("RGB")
        for form in forms_of(photo):
            difference = seen(form.content, form.value_range) - np.asarray(form.plain.convert("RGB")).astype(int)
            assert np.abs(difference[1:]).max() <= 1, form.name  # row 0 has the overexposed pixel


JPEG_2000 = {
    "12 bits": (
        "/0//UQApAAAAAAAEAAAAAgAAAAAAAAAAAAAABAAAAAIAAAAAAAAAAAABCwEB/1IADAAAAAEAAAQEAAH/XAAEQGD/ZAAlAAFDcmVh"
        "dGVkIGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjT/kAAKAAAAAAAeAAH/k9/gNAkY60UBaX5aoGUmp3//2Q=="
    ),
    "12 bits in 16": (
        "/0//UQApAAAAAAAEAAAAAgAAAAAAAAAAAAAABAAAAAIAAAAAAAAAAAABDwEB/1IADAAAAAEAAAQEAAH/XAAEQID/ZAAlAAFDcmVh"
        "dGVkIGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjT/kAAKAAAAAAAgAAH/k9/4kHAJGOtFAWl+WqBlJqdCK//Z"
    ),
    "signed": (
        "/0//UQApAAAAAAAEAAAAAgAAAAAAAAAAAAAABAAAAAIAAAAAAAAAAAABjwEB/1IADAAAAAEAAAQEAAH/XAAEQID/ZAAlAAFDcmVh"
        "dGVkIGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjT/kAAKAAAAAAAgAAH/k8H+A4AROug4vm6SdDVEtfDjA//Z"
    ),
    "colour": (
        "/0//UQAvAAAAAAAEAAAAAgAAAAAAAAAAAAAABAAAAAIAAAAAAAAAAAADDwEBDwEBDwEB/1IADAAAAAEBAAQEAAH/XAAEQID/ZAAl"
        "AAFDcmVhdGVkIGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjT/kAAKAAAAAAAiAAH/k9/4kHAJGOtFAWl+WqBlJqdCK4CA/9k="
    ),
}
"""Of 4 x 2 pixels, by OpenJPEG. A row is 0, 819, 4095, 2048; 16 times that in 16 bits; 1024 less with a sign."""


class TestJpeg2000:
    @pytest.mark.parametrize(
        ("form", "value_range", "levels"),
        [
            ("12 bits", None, [0, 51, 255, 128]),
            ("12 bits", "0,4095", [0, 51, 255, 128]),
            ("12 bits in 16", "0,65520", [0, 51, 255, 128]),
            ("signed", "-1024,3071", [0, 51, 255, 128]),
        ],
    )
    def test_the_values_are_those_of_the_file(self, form, value_range, levels):
        """Pillow makes 16 unsigned bits of them all."""
        assert seen(base64.b64decode(JPEG_2000[form]), value_range)[0, :, 0].tolist() == levels

    def test_a_range_of_numbers_with_a_sign_is_unclear(self):
        assert refusal(base64.b64decode(JPEG_2000["signed"])).values == Values(-1024, 3071, whole=True)

    @pytest.mark.parametrize("value_range", [None, "0,65535"])
    def test_colours_of_which_pillow_makes_white_black_are_refused(self, value_range):
        content = base64.b64decode(JPEG_2000["colour"])
        assert refusal(content, PixelRules(value_range)).reason == Reason.UNREAD_BITS

    def test_one_of_8_bits_is_read(self):
        stream = io.BytesIO()
        Image.new("RGB", (9, 9), (1, 2, 3)).save(stream, "JPEG2000")
        assert seen(stream.getvalue())[0, 0].tolist() == [1, 2, 3]


class TestRanges:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            (Values(0, 4080, True), "0,4095"),
            (Values(96, 181, True), "0,255"),
            (Values(0, 900, True), "0,1023"),
            (Values(0, 9000, True), "0,16383"),
            (Values(7, 46517, True), "0,65535"),
            (Values(0, 70000, True), "0,131071"),
            (Values(-976, 424, True), "-1024,3071"),
            (Values(-1024, 1016, True), "-1024,3071"),
            (Values(-31226, 13749, True), "-32768,32767"),
            (Values(-3, 100, True), "-128,127"),
            (Values(0, 1.02, False), "0,1.1"),
            (Values(0, 0.8, False), "0,1"),
            (Values(0, 0.0123, False), "0,0.013"),
            (Values(0, 181.5, False), "0,255"),
            (Values(0, 4095.3, False), "0,4095"),
            (Values(0, 97.0, False), "0,100"),
            (Values(-0.73, 0.21, False), "-0.73,0.21"),
        ],
    )
    def test_a_person_would_choose_it(self, values, expected):
        assert suggested_range(values) == expected
        low, high = map(float, expected.split(","))
        assert read_value_range(expected) == expected and low <= values.low and values.high <= high * 1.002

    def test_large_numbers_keep_their_digits(self):
        assert read_value_range("0,4294967295") == "0,4294967295"


class TestIdentity:
    def test_it_names_background_and_range(self):
        assert USUAL_RULES.words == "on white"
        assert PixelRules.of(Source(value_range="0,4095", background="#112233")).words == (
            "on #112233, values 0,4095 as 0,255"
        )

    @pytest.mark.parametrize("spelling", ["white", "#ffffff", "#FFFFFF"])
    def test_one_colour_has_one_name(self, spelling):
        assert PixelRules(background=spelling).words == "on white"

    def test_what_is_no_longer_true_is_tried_again(self, monkeypatch):
        assert still_holds(Reason.BROKEN, USUAL_RULES)
        assert still_holds(Reason.NO_VALUE_RANGE, USUAL_RULES)
        assert not still_holds(Reason.NO_VALUE_RANGE, PixelRules("0,1"))
        for installed in (True, False):
            monkeypatch.setattr(images, "reads_heif", lambda installed=installed: installed)
            assert still_holds(Reason.HEIF, USUAL_RULES) is not installed


class TestTransparency:
    """The left half is transparent over hidden magenta; the right half is green."""

    HIDDEN, GREEN = (255, 0, 255), (0, 200, 0)

    def halves(self, colour_of_left) -> np.ndarray:
        pixels = np.empty((8, 8, 3), np.uint8)
        pixels[:, :4], pixels[:, 4:] = colour_of_left, self.GREEN
        return pixels

    def content(self, file_format: str, mode: str, **options: object) -> bytes:
        stream, rgb = io.BytesIO(), Image.fromarray(self.halves(self.HIDDEN))
        alpha = Image.fromarray(np.repeat(np.array([[0] * 4 + [255] * 4], np.uint8), 8, axis=0))
        if mode == "P":
            image = rgb.quantize(4)
            options["transparency"] = image.getpixel((0, 0))
        elif mode == "RGB":
            image, options["transparency"] = rgb, self.HIDDEN
        else:
            image = rgb.convert(mode.removesuffix("A"))
            image.putalpha(alpha)
        image.save(stream, file_format, **options)
        return stream.getvalue()

    @pytest.mark.parametrize(
        ("file_format", "mode", "options"),
        [
            ("PNG", "RGBA", {}),
            ("PNG", "P", {}),
            ("PNG", "RGB", {}),
            ("GIF", "P", {}),
            ("WEBP", "RGBA", {"lossless": True}),
            ("TIFF", "RGBA", {}),
            ("TGA", "RGBA", {}),
            ("ICO", "RGBA", {"sizes": [(8, 8)]}),
        ],
    )
    @pytest.mark.parametrize(
        ("background", "colour"), [("white", (255,) * 3), ("black", (0,) * 3), ("#102030", (16, 32, 48))]
    )
    def test_every_kind_shows_the_background(self, file_format, mode, options, background, colour):
        pixels = seen(self.content(file_format, mode, **options), background=background)
        np.testing.assert_array_equal(pixels, self.halves(colour))

    def test_grey_with_alpha(self):
        pixels = seen(self.content("PNG", "LA"))
        assert (pixels[:, :4] == 255).all() and (pixels[:, 4:] == 117).all()  # the grey of (0, 200, 0)

    def test_half_transparent_is_half_the_background(self):
        stream = io.BytesIO()
        Image.new("RGBA", (4, 4), (100, 0, 200, 51)).save(stream, "PNG")  # 51 / 255 = 0.2
        assert seen(stream.getvalue())[0, 0].tolist() == [224, 204, 244]  # 0.2 * 100 + 0.8 * 255 = 224

    def test_it_is_composed_before_the_rotation(self):
        exif = Image.Exif()
        exif[0x0112] = 3
        pixels = seen(self.content("PNG", "RGBA", exif=exif))
        np.testing.assert_array_equal(pixels, self.halves((255,) * 3)[:, ::-1])

    def test_infrared_is_no_alpha(self):
        bands = np.dstack([self.halves((1, 2, 3)), np.zeros((8, 8), np.uint8)])
        np.testing.assert_array_equal(seen(tiff(bands, np.uint8)), self.halves((1, 2, 3)))
        assert (seen(tiff(bands, np.uint8, alpha=2)) == 255).all()


class TestReasons:
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", Reason.LFS_POINTER),
            (b"<!DOCTYPE html><html>404</html>", Reason.WEB_PAGE),
            (b"\xef\xbb\xbf\n <HTML><body>", Reason.WEB_PAGE),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", Reason.SVG),
            (b"<?xml version='1.0'?>\n<!-- drawn -->\n<svg/>", Reason.SVG),
            (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", Reason.NOT_AN_IMAGE),
            (b"%PDF-1.4\n%%EOF", Reason.DOCUMENT),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n", Reason.DOCUMENT),
            (bytes(128) + b"DICM" + bytes(100), Reason.DICOM),
            (b"\xff\x0a" + bytes(50), Reason.OTHER_FORMAT),
            (b"GRIB" + bytes(3) + b"\1" + bytes(50), Reason.OTHER_FORMAT),
            (b"\x93NUMPY\x01\x00", Reason.NOT_AN_IMAGE),
        ],
    )
    def test_of_a_content(self, content, reason):
        assert refusal(content).reason == reason

    def test_a_postscript_file_is_never_handed_to_ghostscript(self, monkeypatch):
        monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
        monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was asked"))
        refusal(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")

    def test_of_a_path(self, tmp_path):
        made = {
            "loop.png": (lambda path: path.symlink_to("loop.png"), Reason.LINK_LOOP),
            "dangling.png": (lambda path: path.symlink_to("nowhere.png"), Reason.DANGLING_LINK),
            "folder.png": (Path.mkdir, Reason.FOLDER),
            "device.png": (lambda path: path.symlink_to("/dev/zero"), Reason.NO_REGULAR_FILE),
            "pipe.png": (os.mkfifo, Reason.NO_REGULAR_FILE),  # opened, it would block for ever
            "gone.png": (lambda path: None, Reason.MISSING),
            "x" * 300: (lambda path: None, Reason.MISSING),
            "nul\0.png": (lambda path: None, Reason.MISSING),
        }
        for name, (make, reason) in made.items():
            make(tmp_path / name)
            assert refusal(tmp_path / name).reason == reason, name

    def test_of_a_socket(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)  # a socket's path may have 107 bytes
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("socket.png")
            assert refusal(Path("socket.png")).reason == Reason.NO_REGULAR_FILE

    def test_a_failing_disk_is_no_broken_image(self, tmp_path, monkeypatch):
        path = draw_image(tmp_path / "a.png", 0)

        def fails(*_, **__):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(Path, "open", fails)
        assert refusal(path).reason == Reason.NO_DISK


class TestText:
    RGB = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)

    @pytest.mark.parametrize(
        "body",
        [
            chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"workflow " * 250_000)),
            chunk(b"tEXt", b"parameters\0" + b"x" * 3_000_000),
            chunk(b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(b"x" * 3_000_000)),
            chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(3_000_000))),
            chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x" * 5000)) * 3,
        ],
        ids=["zTXt", "tEXt", "iTXt", "iCCP", "three"],
    )
    def test_it_does_not_stop_a_good_image(self, body):
        np.testing.assert_array_equal(seen(png(self.RGB, body)), self.RGB)

    def test_the_text_that_tells_the_rotation_is_kept(self):
        xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
        content = png(self.RGB, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp) + chunk(b"tEXt", b"a\0b"))
        np.testing.assert_array_equal(seen(content), self.RGB[::-1, ::-1])
        huge = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp + b" " * 5_000_000))
        assert refusal(png(self.RGB, huge)).reason == Reason.LONG_TEXT

    def test_a_text_that_unpacks_to_80_mb_is_never_unpacked(self):
        """In a process that may use little more memory than it has."""
        bomb = png(self.RGB, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(80_000_000))))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seen(bomb)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown * (1 if sys.platform == "darwin" else 1024) < 40_000_000

    def test_a_damaged_chunk_is_left_to_pillow(self):
        content = png(self.RGB, chunk(b"tEXt", b"a\0b"))
        for end in range(0, len(content), 7):
            refusal(content[:end]) if end < len(content) - 40 else None


def two_pages(first: bytes, second: bytes) -> bytes:
    """A TIFF of the pages of two little-endian ones."""
    pages = [bytearray(first), bytearray(second)]
    starts = [struct.unpack_from("<I", page, 4)[0] for page in pages]
    counts = [struct.unpack_from("<H", page, start)[0] for page, start in zip(pages, starts, strict=True)]
    for place in range(starts[1] + 2, starts[1] + 2 + 12 * counts[1], 12):
        tag, kind, count, value = struct.unpack_from("<HHII", second, place)
        if tag == 273 or count * {3: 2, 4: 4}[kind] > 4:  # a place in the file
            struct.pack_into("<I", pages[1], place + 8, value + len(first))
    struct.pack_into("<I", pages[0], starts[0] + 2 + 12 * counts[0], len(first) + starts[1])
    return bytes(pages[0] + pages[1])


class TestPages:
    def pages(self, *sizes: tuple[int, int]) -> bytes:
        stream = io.BytesIO()
        first, *others = [Image.new("RGB", size, (k, k, k)) for k, size in enumerate(sizes)]
        first.save(stream, "TIFF", save_all=True, append_images=others)
        return stream.getvalue()

    @pytest.mark.parametrize(
        ("sizes", "page"),
        [
            (((320, 224), (320, 224)), 0),
            (((32, 22), (320, 224)), 1),  # a thumbnail first
            (((32, 22), (64, 64), (320, 224)), 2),
            (((320, 224), (32, 22)), 0),  # a thumbnail after
            (((32, 22), (40, 28)), 0),  # another page, a little larger
        ],
    )
    def test_a_thumbnail_is_not_taken_for_the_image(self, sizes, page):
        assert (seen(self.pages(*sizes)) == page).all()

    def test_a_thumbnail_before_colours_of_16_bits(self):
        thumbnail, image = (tiff(np.full((*size, 3), 40_000), np.uint16) for size in ((22, 32), (224, 320)))
        pixels = seen(two_pages(thumbnail, image))
        assert pixels.shape == (224, 320, 3) and (pixels == 156).all()  # 40,000 / 257

    def test_a_thumbnail_alone_is_refused(self):
        """Raw data of a camera: a TIFF whose image is where no TIFF reader looks."""
        stream = io.BytesIO()
        Image.new("RGB", (32, 22)).save(stream, "TIFF", tiffinfo={254: 1})
        assert refusal(stream.getvalue()).reason == Reason.OTHER_TIFF


class TestHeif:
    def content(self) -> bytes:
        pillow_heif = pytest.importorskip("pillow_heif")
        pillow_heif.register_heif_opener()
        stream = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (64, 32), (10, 200, 30)).save(stream, "HEIF", quality=95, exif=exif.tobytes())
        return stream.getvalue()

    def test_it_is_read_where_the_extra_is_installed(self):
        pixels = seen(self.content())
        assert pixels.shape == (64, 32, 3)  # rotated once
        assert np.abs(pixels - (10, 200, 30)).max() <= 6

    def test_without_it_the_reason_names_the_extra(self):
        reason = reason_of_content(self.content())
        assert reason == Reason.HEIF and "pip install 'labeldep[heif]'" in reason.text

    def test_an_avif_is_none(self):
        avif = b"\0\0\0\x1cftypavif" + bytes(4) + b"avifmif1miaf"
        assert reason_of_content(avif) == Reason.OTHER_FORMAT
        assert reason_of_content(avif.replace(b"ftypavif", b"ftypmif1")) == Reason.OTHER_FORMAT


class TestReport:
    def facts(self, pixels: object, values: Values | None = None):
        image = Image.fromarray(np.array(pixels, np.uint8))
        return facts_of(image, image.convert("L"), values)

    def test_facts_of_an_image(self):
        mixed = self.facts([[[0, 0, 0], [60, 60, 60]]])
        assert mixed.mean == 30 and mixed.colour == ""
        same_grey = self.facts([[[0, 0, 255], [97, 0, 0]]])
        assert same_grey.mean == 29 and same_grey.colour == "", "two colours of the same shade"
        assert self.facts(np.full((5, 5, 3), 7)).colour == "#070707"

    def test_what_a_user_should_know(self):
        flat = [np.full((2, 2, 3), level) for level in (0, 255, 7)]
        night = np.arange(12).reshape(2, 2, 3)
        usual = np.arange(0, 240, 20).reshape(2, 2, 3)
        clipped = Values(0, 65520, True, outside=0.5)
        facts = [*map(self.facts, (*flat, night, usual)), self.facts(usual, clipped), None]
        report = PixelReport.of(list("bwcnuxm"), facts, PixelRules("0,4095"))
        assert report.sentences == (
            "1 image (x) has more than 8 bits, values 0 to 65520; scaled to 8 bits: 0,4095",
            "1 image (x): over 1 % of the values are outside 0,4095",
            "1 image (b) is entirely black",
            "1 image (w) is entirely white",
            "1 image (c) is of one colour only",
            "1 image (n) is nearly black, with a mean below 10 of 255",
        )
        record = report.to_json()
        assert record["more_than_8_bits"]["clipped"] == {"images": 1, "example": "x"}
        assert record["nearly_black"] == {"images": 1, "example": "n"} and record["value_range"] == "0,4095"

    def test_the_range_to_name_is_that_of_the_images_that_need_it(self):
        usual = np.arange(0, 240, 20).reshape(2, 2, 3)
        facts = [self.facts(usual, Values(0, 65535, True)), PixelFacts(values=Values(7, 4080, True))]
        report = PixelReport.of(["a", "b"], facts, USUAL_RULES)
        assert report.sentences == (
            "2 images (a) have more than 8 bits, values 0 to 65535; scaled to 8 bits: the full range of their type",
            "1 image (b) cannot be used, since the range of the values, 7 to 4080, is unclear: name it, "
            "--value-range 0,4095; it will hold for the other 1 too",
        )
        assert report.to_json()["more_than_8_bits"]["suggested_range"] == "0,4095"

    def test_usual_images_need_no_word(self):
        usual = self.facts(np.arange(0, 240, 20).reshape(2, 2, 3))
        assert PixelReport.of(["a"], [usual], USUAL_RULES).sentences == ()

    def test_a_few_dark_pictures_are_no_fault(self):
        dark, usual = (self.facts(np.arange(0, top, top // 12).reshape(2, 2, 3)) for top in (12, 240))
        report = PixelReport.of(["d", *map(str, range(19))], [dark] + [usual] * 19, USUAL_RULES)
        assert report.sentences == () and report.dark.images == 1

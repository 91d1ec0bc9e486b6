"""Reading images of every kind, and the paper's crops of them."""

from __future__ import annotations

import io
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_image
from PIL import Image, ImageFile

from labeldep_cli.features import images
from labeldep_cli.features.decode import decode, unreadable
from labeldep_cli.features.framing import RESIZED, Framing
from labeldep_cli.features.images import UnreadableImage, read_image
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.features.reasons import Reason
from labeldep_cli.features.views import CROP_SIDES, N_DRAWS, N_VIEWS, POSITIONS, crop_box, cut, view_of_draw
from labeldep_cli.progress import SilentReporter

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corners(size=32):
    """Four solid quarters: red top left, green top right, blue bottom left, white bottom right."""
    half = size // 2
    pixels = np.empty((size, size, 3), dtype=np.uint8)
    pixels[:half, :half], pixels[:half, half:], pixels[half:, :half], pixels[half:, half:] = RED, GREEN, BLUE, WHITE
    return Image.fromarray(pixels)


def seen_corners(image):
    """The colours in the middle of the four quarters, in reading order."""
    near, far = (image.width // 4, image.width * 3 // 4), (image.height // 4, image.height * 3 // 4)
    return [image.getpixel((x, y)) for y in far for x in near]


def nearly(colours, expected, levels=12):
    return np.abs(np.subtract(colours, expected)).max() <= levels


class TestReducedScale:
    @pytest.fixture
    def photo(self, tmp_path):
        """640 x 480 with fine texture."""
        pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC)
        image.save(tmp_path / "photo.jpg", quality=95)
        return tmp_path / "photo.jpg"

    @pytest.mark.parametrize(
        ("at_least", "size"),
        [(480, (640, 480)), (241, (640, 480)), (240, (320, 240)), (224, (320, 240)), (96, (160, 120)), (8, (80, 60))],
    )
    def test_the_smallest_scale_that_is_not_below_the_side(self, photo, at_least, size):
        assert read_image(photo, PixelRules(), at_least).size == size

    def test_its_pixels_are_pillow_s_own(self, photo):
        image = Image.open(photo)
        image.draft(None, (224, 224))
        expected = np.asarray(image.convert("RGB"))
        assert np.array_equal(np.asarray(read_image(photo, PixelRules(), 224)), expected)

    def test_other_formats_keep_their_size(self, tmp_path):
        assert read_image(draw_image(tmp_path / "a.png", 0, (640, 480)), PixelRules(), 8).size == (640, 480)

    def test_a_view_s_pixels_do_not_hang_on_the_others(self, photo):
        def views(*wanted):
            ((decoded),) = decode(lambda _: photo, [[(0, wanted)]], Framing(), PixelRules(), 0, draft=True)
            return decoded.images[0]

        together = views(0, 3, 11)
        for place, view in enumerate((0, 3, 11)):
            assert torch.equal(together[place], views(view)[0])
        assert np.array_equal(together[0], cut(read_image(photo, PixelRules(), 224), (0,))[0])
        assert np.array_equal(together[2], cut(read_image(photo, PixelRules(), RESIZED), (11,))[0])
        assert not np.array_equal(
            together[0], cut(read_image(photo, PixelRules()), (0,))[0]
        )  # 320 x 240 seen, not 640 x 480


class TestReadImage:
    def test_rgb_png_is_read_as_it_is(self, tmp_path):
        path = draw_image(tmp_path / "a.png", seed=0)
        image = read_image(path, PixelRules())
        assert image.mode == "RGB" and image.size == (48, 32)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(Image.open(path)))

    def test_cmyk_jpeg(self, tmp_path):
        corners().convert("CMYK").save(tmp_path / "a.jpg", quality=95)
        assert Image.open(tmp_path / "a.jpg").mode == "CMYK"
        image = read_image(tmp_path / "a.jpg", PixelRules())
        assert image.mode == "RGB" and nearly(seen_corners(image), [RED, GREEN, BLUE, WHITE])

    def test_palette_png(self, tmp_path):
        corners().quantize(4).save(tmp_path / "a.png")
        assert Image.open(tmp_path / "a.png").mode == "P"
        np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.png", PixelRules())), np.asarray(corners()))

    def test_exif_orientation_6_is_turned_to_the_right(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        corners().resize((64, 32), Image.Resampling.NEAREST).save(tmp_path / "a.jpg", quality=95, exif=exif)
        image = read_image(tmp_path / "a.jpg", PixelRules())
        assert image.size == (32, 64)
        # a quarter turn clockwise: top left comes from bottom left, top right from top left
        assert nearly(seen_corners(image), [BLUE, RED, WHITE, GREEN])

    @pytest.mark.parametrize(
        ("orientation", "seen"),
        [
            (1, [RED, GREEN, BLUE, WHITE]),
            (2, [GREEN, RED, WHITE, BLUE]),  # mirrored
            (3, [WHITE, BLUE, GREEN, RED]),  # half a turn
            (4, [BLUE, WHITE, RED, GREEN]),  # upside down, mirrored
            (5, [RED, BLUE, GREEN, WHITE]),  # rows for columns
            (6, [BLUE, RED, WHITE, GREEN]),  # a quarter turn clockwise
            (7, [WHITE, GREEN, BLUE, RED]),  # rows for columns, the other way round
            (8, [GREEN, WHITE, RED, BLUE]),  # a quarter turn anticlockwise
            (9, [RED, GREEN, BLUE, WHITE]),  # there is no such orientation
        ],
    )
    def test_every_exif_orientation(self, tmp_path, orientation, seen):
        exif = Image.Exif()
        exif[0x0112] = orientation
        corners().save(tmp_path / "a.png", exif=exif)
        assert seen_corners(read_image(tmp_path / "a.png", PixelRules())) == seen

    def test_an_odd_exif_tag_beside_the_orientation_does_no_harm(self, tmp_path):
        """Pillow's own exif_transpose fails here: it rewrites all tags, and one holds a text in a number's place."""
        (tmp_path / "odd.jpg").write_bytes(text_in_a_number_s_place())
        exif = Image.Exif()
        exif[0x0112] = 6
        corners().save(tmp_path / "plain.jpg", exif=exif)
        assert (
            read_image(tmp_path / "odd.jpg", PixelRules()).tobytes()
            == read_image(tmp_path / "plain.jpg", PixelRules()).tobytes()
        )

    def test_the_first_frame_of_an_animation(self, tmp_path):
        Image.new("RGB", (8, 8), RED).save(
            tmp_path / "a.gif", save_all=True, append_images=[Image.new("RGB", (8, 8), BLUE)]
        )
        assert Image.open(tmp_path / "a.gif").n_frames == 2
        image = read_image(tmp_path / "a.gif", PixelRules())
        assert image.mode == "RGB" and image.getpixel((4, 4)) == RED

    @pytest.mark.parametrize(("mode", "value"), [("L", 77), ("LA", (77, 255)), ("1", 1)])
    def test_grey(self, tmp_path, mode, value):
        Image.new(mode, (8, 8), value).save(tmp_path / "a.png")
        assert read_image(tmp_path / "a.png", PixelRules()).getpixel((3, 3)) == (
            (255,) * 3 if mode == "1" else (77,) * 3
        )

    def test_the_name_does_not_decide_the_format(self, tmp_path):
        corners().save(tmp_path / "a.jpg", format="PNG")
        assert seen_corners(read_image(tmp_path / "a.jpg", PixelRules())) == [RED, GREEN, BLUE, WHITE]


def png_header(width, height):
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def jpeg(size=(300, 200)):
    stream = io.BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(stream, "JPEG")
    return stream.getvalue()


def dds():
    """A DDS file whose pixel format has flags that mean nothing."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), RED).save(stream, "DDS")
    content = bytearray(stream.getvalue())
    content[80:84] = bytes(4)
    return bytes(content)


def text_in_a_number_s_place():
    """A JPEG to be rotated, with a text under the EXIF tag of its width."""
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "hello"
    corners().save(stream, "JPEG", exif=exif)
    assert stream.getvalue().count(b"\x01\x0e\x00\x02") == 1
    return stream.getvalue().replace(b"\x01\x0e\x00\x02", b"\x01\x00\x00\x02")


def reason_of(path):
    with pytest.raises(UnreadableImage) as caught:
        read_image(path, PixelRules())
    assert caught.value.file == path
    return caught.value.reason


@pytest.fixture
def never_decoded(monkeypatch):
    """Fails the test when Pillow decodes pixels."""

    def load(self):
        pytest.fail("the pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)


class TestUnreadable:
    @pytest.mark.parametrize(
        ("content", "reason", "text"),
        [
            (b"", Reason.EMPTY, "empty file"),
            (b"no image at all\n", Reason.NOT_AN_IMAGE, "not an image"),
            (jpeg()[:-2000], Reason.BROKEN, "truncated or broken image"),
            (jpeg()[:700], Reason.BROKEN, "truncated or broken image"),
            (png_header(4, 4), Reason.BROKEN, "truncated or broken image"),
            (dds(), Reason.BROKEN, "truncated or broken image"),  # Pillow: NotImplementedError
            (png_header(20_000, 20_000), Reason.TOO_LARGE, "over 178 megapixels, not decoded"),
        ],
        ids=["empty", "text", "truncated", "headers-only", "no-pixels", "dds", "huge"],
    )
    def test_says_why(self, tmp_path, content, reason, text):
        (tmp_path / "x.jpg").write_bytes(content)
        assert reason_of(tmp_path / "x.jpg") is reason and reason.text == text

    def test_missing_file(self, tmp_path):
        assert reason_of(tmp_path / "gone.jpg") is Reason.MISSING

    def test_a_folder_is_no_image(self, tmp_path):
        (tmp_path / "x.jpg").mkdir()
        (tmp_path / "x.jpg" / "file").touch()
        assert reason_of(tmp_path / "x.jpg") is Reason.FOLDER

    @pytest.mark.parametrize(
        "error",
        [RuntimeError("Failed to decode image"), struct.error("unpack"), zlib.error("-3"), AttributeError("fp")],
    )
    def test_whatever_a_decoder_raises_is_a_broken_image(self, tmp_path, monkeypatch, error):
        def load(self):
            raise error

        path = draw_image(tmp_path / "a.png", seed=0)
        monkeypatch.setattr(ImageFile.ImageFile, "load", load)
        assert reason_of(path) is Reason.BROKEN

    def test_a_lack_of_memory_is_no_broken_image(self, tmp_path, monkeypatch):
        def load(self):
            raise MemoryError

        path = draw_image(tmp_path / "a.png", seed=0)
        monkeypatch.setattr(ImageFile.ImageFile, "load", load)
        with pytest.raises(MemoryError):
            read_image(path, PixelRules())

    def test_a_forbidden_file(self, tmp_path, monkeypatch):
        def forbidden(*_, **__):
            raise PermissionError(13, "Permission denied")

        draw_image(tmp_path / "a.png", seed=0)
        monkeypatch.setattr(Path, "open", forbidden)
        assert reason_of(tmp_path / "a.png") is Reason.NOT_PERMITTED

    def test_400_megapixels_are_never_decoded(self, tmp_path, never_decoded):
        (tmp_path / "huge.png").write_bytes(png_header(20_000, 20_000))
        assert reason_of(tmp_path / "huge.png") is Reason.TOO_LARGE

    def test_one_pixel_over_the_limit_is_never_decoded(self, tmp_path, monkeypatch, never_decoded):
        path = draw_image(tmp_path / "a.png", seed=0, size=(20, 10))
        monkeypatch.setattr(images, "MAX_PIXELS", 199)
        assert reason_of(path) is Reason.TOO_LARGE

    def test_the_limit_itself_is_decoded(self, tmp_path, monkeypatch):
        path = draw_image(tmp_path / "a.png", seed=0, size=(20, 10))
        monkeypatch.setattr(images, "MAX_PIXELS", 200)
        assert read_image(path, PixelRules()).size == (20, 10)

    def test_every_reason_has_a_text_and_keeps_its_number(self):
        assert [(reason.value, reason.name) for reason in Reason] == [
            (1, "MISSING"),
            (2, "EMPTY"),
            (3, "NOT_AN_IMAGE"),
            (4, "BROKEN"),
            (5, "TOO_LARGE"),
            (6, "NOT_PERMITTED"),
            (7, "NOT_FINITE"),
            (8, "NO_VALUE_RANGE"),
            (9, "LINK_LOOP"),
            (10, "DANGLING_LINK"),
            (11, "FOLDER"),
            (12, "NO_REGULAR_FILE"),
            (13, "NO_DISK"),
            (14, "LFS_POINTER"),
            (15, "WEB_PAGE"),
            (16, "SVG"),
            (17, "DOCUMENT"),
            (18, "DICOM"),
            (19, "HEIF"),
            (20, "OTHER_FORMAT"),
            (21, "OTHER_TIFF"),
            (22, "LONG_TEXT"),
            (23, "UNREAD_BITS"),
        ]
        assert len({reason.text for reason in Reason}) == 23


def noise_image(size=(300, 200), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


class TestViews:
    def test_boxes_are_21_distinct_squares_inside_the_image(self):
        boxes = [(0, 0, RESIZED, RESIZED), *(crop_box(view) for view in range(1, N_VIEWS))]
        assert len(boxes) == 21 and len(set(boxes)) == 21
        for left, top, right, bottom in boxes:
            assert 0 <= left < right <= 256 and 0 <= top < bottom <= 256 and right - left == bottom - top

    def test_four_sizes_at_five_positions(self):
        assert CROP_SIDES == (256, 224, 192, 168, 128)
        assert POSITIONS == ("top left", "top right", "bottom left", "bottom right", "centre")
        for block, side in enumerate((224, 192, 168, 128)):
            room = 256 - side
            boxes = [crop_box(1 + 5 * block + position) for position in range(5)]
            assert [box[:2] for box in boxes] == [(0, 0), (room, 0), (0, room), (room, room), (room // 2, room // 2)]
            assert {(right - left, bottom - top) for left, top, right, bottom in boxes} == {(side, side)}

    def test_25_draws_fall_on_21_views_and_five_times_on_the_whole_image(self):
        assert N_DRAWS == 25
        views = view_of_draw(np.arange(25))
        assert np.bincount(views).tolist() == [5] + [1] * 20
        assert torch.equal(view_of_draw(torch.arange(25)), torch.from_numpy(views))

    @pytest.mark.parametrize("side", [224, 96])
    def test_view_0_is_the_whole_image_resized_once(self, side):
        image = noise_image()
        (seen,) = cut(image, (0,), Framing(side))
        expected = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        np.testing.assert_array_equal(seen, expected)

    @pytest.mark.parametrize("view", range(1, N_VIEWS))
    def test_a_crop_is_the_resized_box(self, tmp_path, view):
        for image in (noise_image(), read_image(draw_image(tmp_path / "a.png", seed=0, size=(300, 200)), PixelRules())):
            (seen,) = cut(image, (view,))
            resized = image.resize((256, 256), Image.Resampling.BILINEAR)
            expected = resized.crop(crop_box(view)).resize((224, 224), Image.Resampling.BILINEAR)
            difference = np.abs(seen.transpose(1, 2, 0).astype(int) - np.asarray(expected).astype(int))
            assert not difference[2:-2, 2:-2].any()
        # The outermost ring is interpolated with the pixels just outside the box: nothing on an image without noise.
        assert difference.max() <= 1

    def test_a_crop_of_224_is_taken_pixel_for_pixel(self):
        image = noise_image((256, 256))
        np.testing.assert_array_equal(cut(image, (1,))[0], np.asarray(image)[:224, :224].transpose(2, 0, 1))
        np.testing.assert_array_equal(cut(image, (5,))[0], np.asarray(image)[16:240, 16:240].transpose(2, 0, 1))

    def test_all_views_are_distinct_and_in_the_order_asked_for(self):
        image = noise_image()
        planes = cut(image, tuple(range(N_VIEWS)), framing=Framing(32))
        assert planes.shape == (21, 3, 32, 32) and planes.dtype == np.uint8
        assert len({plane.tobytes() for plane in planes}) == 21
        np.testing.assert_array_equal(cut(image, (7, 0, 20), framing=Framing(32)), planes[[7, 0, 20]])


def file_in(folder, names, row):
    return folder / names[row]


class TestDecode:
    @pytest.fixture
    def file(self, tmp_path):
        for seed, name in enumerate("acd"):
            draw_image(tmp_path / f"{name}.png", seed)
        (tmp_path / "b.png").write_text("no image")
        return partial(file_in, tmp_path, ("a.png", "b.png", "c.png", "d.png", "gone.png"))

    @pytest.mark.parametrize("workers", [0, 2])
    def test_an_unreadable_image_is_a_hole_and_moves_no_other(self, file, workers):
        batches = [[(0, (0, 3)), (1, (0, 3)), (2, (0, 3))], [(1, (0,)), (4, (0,))], [(3, (20,))]]
        first, second, third = decode(file, batches, Framing(16), PixelRules(), workers)
        assert first.images.shape == (3, 2, 3, 16, 16) and first.reasons.tolist() == [0, Reason.NOT_AN_IMAGE, 0]
        for k, row in ((0, 0), (2, 2)):
            np.testing.assert_array_equal(
                first.images[k].numpy(), cut(read_image(file(row), PixelRules()), (0, 3), Framing(16))
            )
        assert not first.images[1].any()
        assert second.images.shape == (0,) and second.reasons.tolist() == [Reason.NOT_AN_IMAGE, Reason.MISSING]
        np.testing.assert_array_equal(
            third.images[0].numpy(), cut(read_image(file(3), PixelRules()), (20,), Framing(16))
        )

    def test_unreadable_lists_a_reason_for_each_row(self, file):
        with SilentReporter().bar("checking", 5, "images") as bar:
            assert unreadable(file, 5, PixelRules(), 0, bar).tolist() == [0, Reason.NOT_AN_IMAGE, 0, 0, Reason.MISSING]

    def test_unreadable_of_no_images(self, file):
        with SilentReporter().bar("checking", 0, "images") as bar:
            reasons = unreadable(file, 0, PixelRules(), 0, bar)
        assert reasons.shape == (0,) and reasons.dtype == np.uint8

"""Why an image cannot be used, told from its bytes where Pillow only says no."""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """Why an image was skipped. The numbers are stored in feature stores, so their meaning never changes."""

    MISSING = 1
    EMPTY = 2
    NOT_AN_IMAGE = 3
    BROKEN = 4
    TOO_LARGE = 5
    NOT_PERMITTED = 6
    NOT_FINITE = 7
    NO_VALUE_RANGE = 8
    LINK_LOOP = 9
    DANGLING_LINK = 10
    FOLDER = 11
    NO_REGULAR_FILE = 12
    NO_DISK = 13
    LFS_POINTER = 14
    WEB_PAGE = 15
    SVG = 16
    DOCUMENT = 17
    DICOM = 18
    HEIF = 19
    OTHER_FORMAT = 20
    OTHER_TIFF = 21
    LONG_TEXT = 22
    UNREAD_BITS = 23

    @property
    def text(self) -> str:
        """The reason in words."""
        return _TEXTS[self]


_TEXTS = {
    Reason.MISSING: "missing file",
    Reason.EMPTY: "empty file",
    Reason.NOT_AN_IMAGE: "not an image",
    Reason.BROKEN: "truncated or broken image",
    Reason.TOO_LARGE: "over 178 megapixels, not decoded",
    Reason.NOT_PERMITTED: "no permission to read it",
    Reason.NOT_FINITE: "features not finite in 16 bits",
    Reason.NO_VALUE_RANGE: "more than 8 bits, and no value range is named",
    Reason.LINK_LOOP: "a link that leads back to itself",
    Reason.DANGLING_LINK: "a link to a missing file",
    Reason.FOLDER: "a folder, not a file",
    Reason.NO_REGULAR_FILE: "a pipe, a socket or a device, not a file",
    Reason.NO_DISK: "the disk or the network failed while it was read",
    Reason.LFS_POINTER: "a Git LFS pointer, not the image itself: run git lfs pull",
    Reason.WEB_PAGE: "an HTML page, not an image",
    Reason.SVG: "an SVG drawing, which is not read: save it as PNG",
    Reason.DOCUMENT: "a PDF or PostScript document, not an image",
    Reason.DICOM: "a DICOM file, which is not read: save it as 16-bit PNG",
    Reason.HEIF: "a HEIC photo, which needs: pip install 'labeldep[heif]'",
    Reason.OTHER_FORMAT: "an image format that is not read here, such as JPEG XL: save it as PNG or JPEG",
    Reason.OTHER_TIFF: "a TIFF with bands, numbers or raw data that are not read: save it as grey or RGB",
    Reason.LONG_TEXT: "text or metadata of many megabytes in the image",
    Reason.UNREAD_BITS: "a JPEG 2000 in colour with more than 8 bits, which is not read: save it as 16-bit PNG",
}

ABSENT = (Reason.MISSING, Reason.DANGLING_LINK)
"""There is no file."""

_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
"""Kinds of an ISO media file that hold photos coded by HEVC, as phones write them."""

_MAGIC = (
    (b"version https://git-lfs.github.com/spec/", Reason.LFS_POINTER),
    (b"%PDF", Reason.DOCUMENT),
    (b"%!PS", Reason.DOCUMENT),
    (b"\xff\x0a", Reason.OTHER_FORMAT),  # JPEG XL
    (b"\0\0\0\x0cJXL ", Reason.OTHER_FORMAT),
    (b"8BPS", Reason.OTHER_FORMAT),
    (b"II*\0", Reason.OTHER_TIFF),
    (b"MM\0*", Reason.OTHER_TIFF),
    (b"II+\0", Reason.OTHER_TIFF),
    (b"MM\0+", Reason.OTHER_TIFF),
)


def is_heif(content: bytes) -> bool:
    """Whether bytes are those of a HEIC photo; AVIF, which Pillow reads itself, is none."""
    return content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS and b"avif" not in content[8:64]


def reason_of_content(content: bytes) -> Reason:
    """What bytes are that Pillow does not recognise as an image."""
    if is_heif(content):
        return Reason.HEIF
    if content[4:8] == b"ftyp" and b"avif" in content[8:64]:
        return Reason.OTHER_FORMAT
    if content[128:132] == b"DICM":
        return Reason.DICOM
    for magic, reason in _MAGIC:
        if content.startswith(magic):
            return reason
    text = content[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return Reason.WEB_PAGE
    if text.startswith((b"<svg", b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in text:
        return Reason.SVG
    return Reason.NOT_AN_IMAGE

"""All image files of ../shared/cases/images.py: what becomes of each."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from labeldep_cli.features.images import UnreadableImage, read_image
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.features.reasons import Reason

MAKERS = Path(__file__).resolve().parents[2] / "shared" / "cases"

RANGES = {
    "g12.png": "0,4080",
    "g12.tif": "0,4080",
    "rgb12.tif": "0,4080",
    "i32_255.tif": "0,255",
    "i32_65535.tif": "0,65535",
    "s16.tif": "-32768,32767",
    "ct.tif": "-1024,1016",
    "f255.tif": "0,255",
    "f4095.tif": "0,4095",
    "f65535.tif": "0,65535",
}
"""Refused as long as no range is named; read with this one."""

REFUSED = {
    **dict.fromkeys(("half.jpg", "header_only.jpg", "head100.jpg", "png_half.png"), Reason.BROKEN),
    **dict.fromkeys(("minus1.jpg", "minus2.jpg", "minus10.jpg"), Reason.BROKEN),
    **dict.fromkeys(("bomb20000.png", "hugeheader.png"), Reason.TOO_LARGE),
    **dict.fromkeys(("bands5.tif", "rgbf32.tif"), Reason.OTHER_TIFF),
    **dict.fromkeys(("eps.eps", "pdf.pdf"), Reason.DOCUMENT),
    **dict.fromkeys(("npy.npy", "leading_newline.jpg"), Reason.NOT_AN_IMAGE),
    **dict.fromkeys(("fifo.jpg", "sock.jpg", "devzero.jpg", "/dev/null"), Reason.NO_REGULAR_FILE),
    **dict.fromkeys(("dir.jpg", "..", "."), Reason.FOLDER),
    **dict.fromkeys(("x" * 300 + ".png", "nul\0.png", "REF.PNG", "sub\\a.png"), Reason.MISSING),
    **dict.fromkeys(("http://example.org/a.png", "s3://bucket/a.png", "~/a.png", "$HOME/a.png"), Reason.MISSING),
    "html.jpg": Reason.WEB_PAGE,
    "text.jpg": Reason.LFS_POINTER,
    "svg.svg": Reason.SVG,
    "dicom.dcm": Reason.DICOM,
    "jxl.jxl": Reason.OTHER_FORMAT,
    "empty.jpg": Reason.EMPTY,
    "dangling.jpg": Reason.DANGLING_LINK,
    "loop.jpg": Reason.LINK_LOOP,
}
"""Refused for good, with the true reason. The reader of tables tells more of the missing ones: a URL, `~`, a case."""

APART = {
    "f1_3.tif": 45,  # its highest value is 0.92: nothing tells that 1.3 would be white
    "la.png": 15,  # a grey photo, and the reference is in colour
    "pal_trans.png": 8,  # 255 colours
    "trans.gif": 8,
    "x.tiff": 9,  # JPEG at quality 75
    "rgb_trns.png": 16,  # its red corner is transparent, as the file says
}
"""Mean difference in levels from the reference, where it is above 3 and why."""

DIFFERENT_SIZE = {"x.ico"}
"""An ICO holds at most 256 pixels a side."""


@pytest.mark.slow
def test_every_case_is_right_or_refused_with_the_true_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not MAKERS.is_dir():
        pytest.skip("the cases (../shared/cases) are not beside this checkout")
    pytest.importorskip("pillow_heif")
    monkeypatch.setattr(sys, "path", [str(MAKERS), *sys.path])
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 89_478_485)  # the makers lift it
    import images

    monkeypatch.chdir(tmp_path)
    wrong = []
    cases = images.pictures(tmp_path / "p")
    for name, reference, _ in cases:
        if name in ("noperm.png", "/proc/self/mem") or name.startswith("file:"):  # these depend on user and system
            continue
        outcome = became(tmp_path / "p", name, reference)
        if outcome:
            wrong.append(f"{name[:40]!r}: {outcome}")
    assert len(cases) > 180 and not wrong, "\n".join(wrong)


def became(folder: Path, name: str, reference: str) -> str:
    """What is wrong with a case; empty if nothing is."""
    expected = Reason.NO_VALUE_RANGE if name in RANGES else REFUSED.get(name)
    try:
        read_image(folder / name, PixelRules())
        reason = None
    except UnreadableImage as unreadable:
        reason = unreadable.reason
    if reason != expected:
        return f"{reason} instead of {expected}"
    if name in REFUSED or not reference or name in DIFFERENT_SIZE:
        return ""
    seen = np.asarray(read_image(folder / name, PixelRules(RANGES.get(name)))).astype(int)
    meant = np.asarray(read_image(folder / reference, PixelRules())).astype(int)
    if seen.shape != meant.shape:
        return f"{seen.shape} instead of {meant.shape}"
    difference = float(np.abs(seen - meant).mean())
    return "" if difference <= APART.get(name, 3) else f"{difference:.1f} levels from {reference}"

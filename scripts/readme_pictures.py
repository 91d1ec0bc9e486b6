"""Make the README's pictures from `labeldep demo`: parts of a report on its runs.

    python scripts/readme_pictures.py [--work FOLDER]

Needs Playwright and a Chromium on this machine. With --work, a demo that has run there already is taken as it is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

OUT = Path(__file__).parents[1] / "docs" / "images"
RUNS = ("scenes-scenesnet-pretrain", "scenes-scenesnet-critic")
WIDTH = 1140  # pixels of the browser's window
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def labeldep(work: Path, *words: str) -> None:
    """Run a command in the folder."""
    where = {**os.environ, "LABELDEP_DATA": str(work / "data"), "LABELDEP_RUNS": str(work / "runs")}
    subprocess.run([sys.executable, "-m", "labeldep_cli", *words], cwd=work, env=where, check=True)


def save(picture: Image.Image, name: str) -> None:
    """Write a picture, made small."""
    path = OUT / name
    picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size / 1000:.0f} kB")


def between(page: Page, first: str, last: str, name: str) -> None:
    """Write the part of a page from one element to the end of another."""
    box = page.evaluate(
        "([a, b]) => [document.querySelector(a).getBoundingClientRect().top + scrollY,"
        " document.querySelector(b).getBoundingClientRect().bottom + scrollY]",
        [first, last],
    )
    path = OUT / name
    clip = {"x": 0, "y": box[0] - 8, "width": WIDTH, "height": box[1] - box[0] + 16}
    page.screenshot(path=path, full_page=True, clip=clip)
    with Image.open(path) as picture:
        save(picture.copy(), name)


def of_the_report(report: Path) -> None:
    """The label maps, the images that the critic improved, and the evidence for one of them."""
    browser = next((found for found in map(shutil.which, _BROWSERS) if found), None)
    if browser is None:
        sys.exit(f"no browser: install one of {', '.join(_BROWSERS)}")
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = opened.new_page(viewport={"width": WIDTH, "height": 900})
        page.goto(report.resolve().as_uri())
        between(page, "#together", "#maps", "together.png")
        between(page, "#gallery", "#gallery ~ ul", "improved.png")
        page.locator("#gallery ~ ul button").first.click()
        path = OUT / "evidence.png"
        page.locator("#looked").screenshot(path=path)
        with Image.open(path) as picture:
            save(picture.copy(), path.name)
        opened.close()


def main() -> None:
    """Run the demo and take its pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path)
    work = parser.parse_args().work
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work = (work or Path(folder)).resolve()
        labeldep(work, "demo")
        labeldep(work, "report", *RUNS, "--out", "report.html")
        of_the_report(work / "report.html")


if __name__ == "__main__":
    main()

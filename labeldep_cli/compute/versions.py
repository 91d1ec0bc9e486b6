"""What the numbers were made with."""

from __future__ import annotations

from importlib import metadata

from labeldep_cli import __version__

PACKAGES = ("torch", "torchvision", "pillow", "numpy")


def versions() -> dict[str, str]:
    """Versions of this program and of the packages that shape its numbers."""
    return {"labeldep": __version__, **{package: metadata.version(package) for package in PACKAGES}}

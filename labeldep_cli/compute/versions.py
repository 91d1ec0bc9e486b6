"""Versions of the packages that affect results."""

from __future__ import annotations

from importlib import metadata

from labeldep_cli import __version__

PACKAGES = ("torch", "torchvision", "pillow", "numpy")


def versions() -> dict[str, str]:
    """Versions of this program and of the packages that affect its results, by package name."""
    return {"labeldep": __version__, **{package: metadata.version(package) for package in PACKAGES}}

"""Read XML that other programs have written. Entities are refused: a few of them can fill the memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from labeldep_cli.errors import DatasetError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


def parse_xml(file: Path) -> Element:
    """The root of an XML file.

    Raises:
        DatasetError: it cannot be read, is not XML, or declares entities.
    """
    from defusedxml.ElementTree import parse

    with _readable(file):
        root: Element = parse(file).getroot()
        return root


def elements_of(file: Path, tags: frozenset[str]) -> Iterator[Element]:
    """The finished elements with one of the tags, in order; each is emptied after its use, so that memory stays small.

    Raises:
        DatasetError: as `parse_xml`.
    """
    from defusedxml.ElementTree import iterparse

    with _readable(file):
        for _, element in iterparse(file, events=("end",)):
            if element.tag in tags:
                yield element
                element.clear()


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turn errors of the parser in this block into ones for the user."""
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException

    try:
        yield
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror}", "Check the file and its permissions.") from None
    except ParseError as error:
        raise DatasetError(f"{file} is not valid XML: {error}", "It may be cut off: export it again.") from None
    except DefusedXmlException as error:
        raise DatasetError(
            f"{file} declares entities or other files, which labels do not need: {error}",
            "Remove the declarations <!ENTITY ...>.",
        ) from None

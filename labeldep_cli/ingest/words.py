"""Words of foreign sources, and words about them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

_SHOWN = 3


def some(names: Sequence[str]) -> str:
    """A count with examples: "5 (a, b, c, ...)"."""
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return f"{len(names)} ({shown})"


def one_of(keys: Collection[str], wanted: Sequence[str]) -> str | None:
    """The first of the wanted keys that is among `keys` in any case, as it is written there."""
    written = {key.strip().lower(): key for key in reversed(list(keys))}
    return next((written[word] for word in wanted if word in written), None)


PATH_KEYS = ("path", "file_name", "filename", "file", "filepath", "image_path", "img_path", "image", "img", "image_id")
"""Keys of an object, in lower case, that have the path of an image."""

LABEL_KEYS = ("labels", "label", "tags", "classes", "categories", "choices", "choice", "targets", "target")
"""Keys of an object, in lower case, that list its labels."""

"""What a feature cache was made from, and whether that is what is wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from labeldep_cli.config import Precision
from labeldep_cli.errors import CacheError

FORMAT = 1


@dataclass(frozen=True)
class Origin:
    """What a cache was made from.

    Attributes:
        dataset, split: their names.
        fingerprint: SHA-256 of the split's rows, labels and label names.
        backbone: its name.
        weights_sha256: of the weights' file (of the tensors, for random weights).
        preprocessing: what happens to an image before the backbone, in words and numbers.
        compute_dtype: of the forward pass; "float32 compiled" where torch.compile made it.
        views: V, 1 or 21.
        label_names: L names in order.
        spatial: regions of the last feature map instead of pooled features.
        versions: of the packages that shaped the numbers; told, never compared.
    """

    dataset: str
    split: str
    fingerprint: str
    backbone: str
    weights_sha256: str
    preprocessing: str
    compute_dtype: str
    views: int
    label_names: tuple[str, ...]
    versions: Mapping[str, str]
    spatial: bool = False

    @property
    def precision(self) -> Precision:
        """The dtype's name alone."""
        return cast(Precision, self.compute_dtype.split()[0])

    def to_json(self) -> str:
        """One line, keys in a fixed order."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True, ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Origin:
        """Read what `to_json` wrote; ValueError, KeyError or TypeError for anything else."""
        value = json.loads(text)
        if value.pop("format") != FORMAT:
            raise ValueError("another format")
        return Origin(**{**value, "label_names": tuple(value["label_names"])})

    def require_fits(self, wanted: Origin, path: Path, command: str) -> None:
        """Refuse a cache that was made from something else.

        Args:
            wanted: what is asked for.
            path: of the cache, for the message.
            command: that makes the cache anew.

        Raises:
            CacheError: names the first thing that differs, on both sides. More views than wanted fit.
        """
        remedy = f"Run: {command}"
        for name, told in (
            ("dataset", "data set"),
            ("split", "split"),
            ("backbone", "backbone"),
            ("weights_sha256", "weights"),
            ("preprocessing", "preprocessing"),
            ("compute_dtype", "compute dtype"),
            ("spatial", "regions"),
            ("label_names", "labels"),
            ("fingerprint", "rows or labels of the split"),
        ):
            mine, theirs = getattr(self, name), getattr(wanted, name)
            if mine != theirs:
                what = f"{path} does not fit: {told} {_short(mine)}, wanted {_short(theirs)}"
                raise CacheError(what, f"{_SAME_DRAW}{remedy}" if name == "fingerprint" else remedy)
        if self.views < wanted.views:
            raise CacheError(
                f"{path} does not fit: views {self.views}, wanted {wanted.views}",
                f"{remedy}\n(which replaces it: the one view is among the {wanted.views}, so nothing is lost)",
            )


_SAME_DRAW = (
    "If the data set is as it was: the same --val-fraction, --test-fraction and --split-seed as then. Otherwise:\n"
)


def _short(value: Any) -> str:  # noqa: ANN401 - a field of Origin
    if isinstance(value, tuple):
        return f"[{', '.join(value[:4])}{', …' if len(value) > 4 else ''}]"
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)

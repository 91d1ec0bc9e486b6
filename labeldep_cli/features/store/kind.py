"""What, besides an image's pixels, its features depend on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import cast

from labeldep_cli.config import Precision

FORMAT = 2
"""Of stores; format 1 was a file a split, with labels in it."""


@dataclass(frozen=True)
class FeatureKind:
    """The identity of a store.

    Attributes:
        backbone: its name.
        weights_sha256: of the weights' file (of the recipe, for random weights).
        preprocessing: what happens to an image before the backbone, in words and numbers.
        compute_dtype: of the forward pass; "float32 compiled" where torch.compile made it.
        spatial: regions of the last feature map instead of pooled features.
    """

    backbone: str
    weights_sha256: str
    preprocessing: str
    compute_dtype: str
    spatial: bool = False

    @property
    def folder_name(self) -> str:
        """BACKBONE[-spatial]-DIGEST, the name of the store's folder."""
        digest = hashlib.sha256(self.to_json().encode()).hexdigest()[:8]
        return f"{self.backbone}{'-spatial' if self.spatial else ''}-{digest}"

    @property
    def precision(self) -> Precision:
        """The dtype's name alone."""
        return cast(Precision, self.compute_dtype.split()[0])

    @property
    def compiled(self) -> bool:
        """Whether torch.compile made the forward pass."""
        return self.compute_dtype.endswith("compiled")

    def to_json(self) -> str:
        """One line, keys in a fixed order."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True, ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> FeatureKind:
        """Read what `to_json` wrote; ValueError, KeyError or TypeError for anything else."""
        value = json.loads(text)
        if value.pop("format") != FORMAT:
            raise ValueError("another format")
        return FeatureKind(**value)

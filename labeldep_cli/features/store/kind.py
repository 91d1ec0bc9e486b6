"""The identity of a store: everything except the image that its features depend on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, cast

from labeldep_cli.config import Engine, Precision
from labeldep_cli.files import plain_name
from labeldep_cli.schemas import conform, parse_json

FORMAT = 2
"""Version of the store's format. Format 1 was one file per split, with the labels in it."""


@dataclass(frozen=True)
class FeatureKind:
    """The identity of a store.

    Attributes:
        backbone: name of the backbone.
        weights_sha256: SHA-256 of the weights file; for random weights, of the words that describe them.
        preprocessing: the preprocessing of images before the backbone, in words and numbers.
        compute_dtype: dtype of the forward pass; "float32 compiled" if torch.compile was used, "float32 onnxruntime"
            if ONNX Runtime computed it.
        spatial: whether the features are regions of the last feature map instead of pooled features.
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
        return f"{plain_name(self.backbone)}{'-spatial' if self.spatial else ''}-{digest}"

    @property
    def precision(self) -> Precision:
        """The name of the dtype, without the words behind it."""
        return cast(Precision, self.compute_dtype.split()[0])

    @property
    def compiled(self) -> bool:
        """Whether the forward pass used torch.compile."""
        return self.compute_dtype.endswith("compiled")

    @property
    def engine(self) -> Engine:
        """What computed the forward pass."""
        return "onnxruntime" if self.compute_dtype.endswith("onnxruntime") else "torch"

    def to_json(self) -> str:
        """One line, keys in a fixed order."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True, ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> FeatureKind:
        """Read what `to_json` wrote; ValueError for anything else."""
        record = conform(parse_json(text), dict[str, Any])
        if record.get("format") != FORMAT:
            raise ValueError("another format")
        kind = conform(record, FeatureKind)
        if unknown := record.keys() - asdict(kind).keys() - {"format"}:  # part of its identity
            raise ValueError(f"{min(unknown)} is not known")
        return kind

"""Settings of extraction: how features are computed and cached."""

from __future__ import annotations

from dataclasses import dataclass

from labeldep_cli.config.choices import DecodeOn, Engine, Jpegs, Precision
from labeldep_cli.config.settings import setting


@dataclass(frozen=True)
class ExtractConfig:
    """How features are computed and cached.

    Attributes:
        views: 1 is the test transform alone.
        precision: auto is float16 on a GPU, since features are stored in float16.
        engine: features of one engine are another store's than those of the other: they differ by rounding.
        draft: the scales are 1, 1/2, 1/4 and 1/8.
        decode: what a GPU cannot decode, and images of other formats, are decoded by the CPU.
        group: number of images that pass the backbone together and are written together. It is fixed, so that an
            extraction that was killed and resumed computes the same bytes.
    """

    views: int = setting(
        1,
        "Number of views of each image; 21: every crop of the training augmentation, for the train split.",
        choices=(1, 21),
    )
    spatial: bool = setting(False, "Cache the regions of the last feature map, for --head att-rnn, rlsd, ml-decoder.")
    precision: Precision = setting(
        "auto",
        "Number format that the backbone computes in; auto: as in the existing cache, else float16 on a GPU, float32 "
        "on a CPU.",
    )
    compile: bool = setting(False, "Compile the backbone first: takes up to a minute, speeds up large data sets.")
    engine: Engine | None = setting(
        None,
        "What runs the backbone on a CPU: torch, or onnxruntime, which is faster (needs the extra onnx).",
        default_text="as in the existing cache, else torch",
    )
    draft: bool | None = setting(
        None,
        "Decode large JPEGs at reduced scale, never below the size that is needed.",
        flag="--draft/--no-draft",
        default_text="as in the existing cache, else no",
    )
    decode: DecodeOn | None = setting(
        None,
        "Where JPEGs are decoded: cpu; gpu: by nvJPEG, only with a CUDA device (not tried yet on a real one).",
        default_text="as in the existing cache, else cpu",
    )
    group: int = 32

    @property
    def jpegs(self) -> Jpegs:
        """How JPEGs are decoded for a new store."""
        return "gpu" if self.decode == "gpu" else "draft" if self.draft else "full"

    def allows(self, jpegs: Jpegs) -> bool:
        """Whether a store with JPEGs decoded like this is one that the flags ask for."""
        drafted = self.draft is None or self.draft == (jpegs == "draft")
        return drafted and (self.decode is None or (self.decode == "gpu") == (jpegs == "gpu"))

    def flags(self, jpegs: Jpegs) -> list[str]:
        """The flags of `labeldep extract` for a store with these settings, and JPEGs decoded like this."""
        words = {"full": [], "draft": ["--draft"], "gpu": ["--decode", "gpu"]}[jpegs]
        words += ["--precision", self.precision] if self.precision != "auto" else []
        return words + (["--engine", self.engine] if self.engine else [])

    @staticmethod
    def of(jpegs: Jpegs) -> ExtractConfig:
        """The settings that ask for JPEGs decoded like this."""
        return ExtractConfig(draft=jpegs == "draft", decode="gpu" if jpegs == "gpu" else "cpu")

"""Every setting and its default, once. The command line reads its defaults from here.

Where the paper states a value, its section stands beside it. Where it states none (batch size, epochs, Adam's betas,
the LeakyReLU's slope, seeds), the value is ours and is a flag like all others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

DEFAULT_BACKBONE = "resnet101"
"""Table 3 is made with it."""

PAPER_BACKBONES = ("vgg16", "inception_v3", "resnet101", "resnet152")
"""Sect. 3.1."""

BACKBONE_NAMES = (*PAPER_BACKBONES, "googlenet", "scenesnet")
"""The rows of BACKBONES, for where torch is not imported; any other classifier of torchvision goes too."""

Sampling = Literal["gumbel", "straight-through", "none"]
Loss = Literal["logistic", "focal", "asl", "warp"]
CriticKind = Literal["wgan-gp", "nce", "none"]
Selection = Literal["mAP", "CF1", "OF1", "exact_match"]
HeadKind = Literal["linear", "cnn-rnn", "att-rnn", "rlsd", "ml-decoder", "gcn"]
DEFAULT_HEAD: HeadKind = "linear"

ExportFormat = Literal["onnx", "torch"]
DEFAULT_EXPORT_FORMAT: ExportFormat = "onnx"
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Decided = Literal["threshold", "rerank", "expected-f1"]


@dataclass(frozen=True)
class Workspace:
    """Where data, caches and runs lie."""

    data_dir: Path = Path("data")
    runs_dir: Path = Path("runs")
    features_dir: Path | None = None

    @property
    def features(self) -> Path:
        """The folder of the caches: `--features-dir`, else `features` in the data folder."""
        return self.features_dir or self.data_dir / "features"


@dataclass(frozen=True)
class Place:
    """Where runs lie, and where a run's data lie now if they were moved; None for where the run says."""

    runs_dir: Path = Workspace.runs_dir
    data_dir: Path | None = None
    features_dir: Path | None = None


@dataclass(frozen=True)
class Source:
    """Which data, seen through which backbone.

    Attributes:
        dataset: a name of DATASETS or a path.
        backbone: a name of BACKBONES or of a torchvision classification model; None for the data set's own default.
        weights: "default" (torchvision's published ones), a name of torchvision's weights for that model
            ("IMAGENET1K_V1"), "none" (random), or the path of a state dict.
        val_fraction, test_fraction: what is drawn where the data set brings no such split.
        split_seed: of those draws; never the training seed.
    """

    dataset: str = "coco"
    backbone: str | None = None
    weights: str = "default"
    val_fraction: float = 0.05
    test_fraction: float = 0.25
    split_seed: int = 0


@dataclass(frozen=True)
class Machine:
    """What to compute on.

    Attributes:
        device: auto, cpu, cuda or cuda:N.
        workers: processes that decode images; None for one a core, at most 8, the cores being shared with the other
            processes that torchrun has started on this machine; 0 decodes in the main process.
        max_skipped: the share of unreadable images above which a command stops.
        max_memory: bytes, in RAM or on the GPU, for the cached features of all splits that a command holds; what is
            larger is streamed. None for no limit.
    """

    device: str = "auto"
    workers: int | None = None
    max_skipped: float = 0.01
    max_memory: int | None = None

    @property
    def n_workers(self) -> int:
        """The number of decoding processes."""
        if self.workers is not None:
            return self.workers
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
        return min(max(cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)), 1), 8)


@dataclass(frozen=True)
class DownloadConfig:
    """How a data set is fetched.

    Attributes:
        urls: NUS-WIDE's own list of URLs; None for a data set that comes in archives.
        mirror: what stands before the path of each URL instead of the host named there ("https://example.org/coco").
        keep_archives: leave the archives beside what was unpacked from them.
        retry_gone: ask again for photos that were gone at an earlier call.
        timeout: seconds without a byte after which a connection counts as broken.
        tries: requests for an archive that may fail one after the other before it is given up; a request that brought
            some megabytes is none of them.
        photo_tries: the same for one photo.
        backoff: seconds before the second try, doubled with each further one, where the server names none.
        longest_wait: seconds; a server that asks for a longer wait is left alone.
        connections: photos that are asked for at a time, of all hosts together.
        pause: seconds between the starts of two requests for photos; more for a while after a server was too busy.
        failures: photos that may fail one after the other before all is given up: a host or the network is gone.
    """

    urls: Path | None = None
    mirror: str | None = None
    keep_archives: bool = False
    retry_gone: bool = False
    timeout: float = 30.0
    tries: int = 8
    photo_tries: int = 3
    backoff: float = 1.0
    longest_wait: float = 600.0
    connections: int = 4
    pause: float = 0.1
    failures: int = 12


@dataclass(frozen=True)
class ExtractConfig:
    """How features are cached.

    Attributes:
        views: 1 (the test transform) or 21 (every crop of the training augmentation; for the train split).
        spatial: keep the last feature map's regions instead of pooled features.
        precision: the dtype that the backbone computes in; "auto": that of the caches that are there, else float16 on a
            GPU (features are stored so) and float32 on a CPU.
        compile: with torch.compile, which pays for large data sets.
        draft: decode JPEGs at the smallest scale (1, 1/2, 1/4, 1/8) that is not below the side that is wanted; None:
            as for the caches that are there, else no.
        group: images that pass the backbone together and are written together; fixed, so that a run that was killed and
            resumed computes the same bytes.
    """

    views: int = 1
    spatial: bool = False
    precision: Precision = "auto"
    compile: bool = False
    draft: bool | None = None
    group: int = 32


@dataclass(frozen=True)
class TrainingConfig:
    """What both training stages share. None means: the stage's default for its mode (`resolved`).

    Attributes:
        full: fine-tune the whole backbone on augmented images instead of a head over cached features.
        views: cached views that training draws from; None for all that the cache holds.
        epochs: passes over the training rows; an epoch is ceil(N / batch_size) generator updates.
        steps: generator updates, instead of epochs. Where neither is given: the stage's epochs, but on a small data set
            at least so many updates that it learns at all (`total_steps`).
        batch_size: rows a batch.
        lr: Adam's learning rate for the generator (Sect. 4.1 has 1e-4 for both networks).
        loss: the generator's: the paper's logistic loss, a stronger companion of today (focal, asl), or the ranking
            loss of Tables 1 and 2 (warp).
        head: what turns features into logits: the paper's own linear one, or a rival's. None in the adversarial stage
            means: as in the run that it starts from.
        hidden: width of one hidden layer in the linear head, 0 for none; of the inner layers of the other heads, 0 for
            their own default.
        select: the score on val, sets at p > 0.5, that chooses the best evaluation. A critic in training may pull G
            towards coherent sets at the cost of a little mAP, which then chooses an evaluation from before it.
        patience: evaluations without a better one after which training stops; 0 for never.
        train_bn: in full mode, update the batch norms' running statistics.
        accumulate: parts that a batch passes G in. Their gradients are added up: memory falls, the mathematics stays.
        checkpoint_activations: in full mode, G's blocks compute their activations anew in the backward pass, instead of
            keeping them: less memory for one more forward pass. No number depends on it.
        beta1, beta2: Adam's, for the generator.
        seed: of initial weights, order, noise. Never of the splits.
    """

    full: bool = False
    views: int | None = None
    epochs: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    loss: Loss = "logistic"
    head: HeadKind | None = None
    hidden: int | None = None
    select: Selection = "mAP"
    patience: int = 0
    train_bn: bool = False
    accumulate: int = 1
    checkpoint_activations: bool = False
    beta1: float = 0.9
    beta2: float = 0.999
    seed: int = 0

    STAGE: ClassVar[str] = ""
    HEAD: ClassVar[Mapping[str, Any]] = {}
    FULL: ClassVar[Mapping[str, Any]] = {}
    HEAD_LENGTH: ClassVar[tuple[int, int]] = (1, 1)
    FULL_LENGTH: ClassVar[tuple[int, int]] = (1, 1)

    @property
    def stage(self) -> str:
        """The last word of the run's default folder."""
        return self.STAGE

    @property
    def rows_per_batch(self) -> int:
        """The batch size of a resolved config."""
        if self.batch_size is None:
            raise ValueError("the config is not resolved yet")
        return self.batch_size

    @property
    def learning_rate(self) -> float:
        """The generator's learning rate of a resolved config."""
        if self.lr is None:
            raise ValueError("the config is not resolved yet")
        return self.lr

    def total_steps(self, steps_per_epoch: int) -> int:
        """Generator updates in all, given those of one epoch."""
        if self.steps is not None:
            return self.steps
        if self.epochs is not None:
            return self.epochs * steps_per_epoch
        epochs, least = self._length
        return max(epochs * steps_per_epoch, least)

    @property
    def _length(self) -> tuple[int, int]:
        """Epochs, and updates at least, where neither is given."""
        return self.FULL_LENGTH if self.full else self.HEAD_LENGTH

    def resolved(self: Config) -> Config:
        """The same settings with every mode-dependent None filled in."""
        stage = self.FULL if self.full else self.HEAD
        return replace(self, **{name: value for name, value in stage.items() if getattr(self, name) is None})

    def settings(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return asdict(self)


Config = TypeVar("Config", bound=TrainingConfig)


@dataclass(frozen=True)
class PretrainConfig(TrainingConfig):
    """Sect. 3.2: the generator alone, on the logistic loss of Eq. 1."""

    STAGE: ClassVar[str] = "pretrain"
    # A fresh linear head learns ten times faster than the paper's 1e-4 would let it; the backbone keeps to 1e-4.
    HEAD: ClassVar[Mapping[str, Any]] = {"batch_size": 128, "lr": 1e-3, "head": DEFAULT_HEAD, "hidden": 0}
    FULL: ClassVar[Mapping[str, Any]] = {"batch_size": 32, "lr": 1e-4, "head": DEFAULT_HEAD, "hidden": 0}
    HEAD_LENGTH: ClassVar[tuple[int, int]] = (40, 400)  # epochs, and updates at least
    FULL_LENGTH: ClassVar[tuple[int, int]] = (10, 50)


@dataclass(frozen=True)
class AdversarialConfig(TrainingConfig):
    """Sects. 3.2-4.1: generator and critic in turn. `head` and `hidden` None mean: as in the run that it starts from.

    The paper's critic_layers, critic_lr and length are those of a critic in training. None means: those, or for "nce"
    what was best for one at test time (chosen on draws from yeast's and scene's training rows alone).

    Attributes:
        critic: "wgan-gp"; "nce": a density ratio between real sets and samples of G (not the paper's; made for
            `--decision rerank`); or "none": the control, the same generator trained as long on the logistic loss alone.
        freeze_generator: train the critic alone, against a fixed generator.
        alpha: weight of the logistic loss, Eq. 2 (Sect. 4.1: 10).
        lambda_gp: weight of the gradient penalty, Eq. 4 (Sect. 4.1: 10).
        critic_steps: critic updates per generator update (Sect. 4.1: 3).
        critic_warmup: critic updates before the generator's first one (the paper tells of none).
        inverse_temperature: of the Gumbel sigmoid (Sect. 4.1: 0.9, no annealing).
        noise_samples: for "nce", samples of G that the real set of an image has to be found among.
        critic_layers: hidden layers of the critic (Sect. 4.1: 8).
        critic_width: their width (Sect. 4.1: 512).
        critic_projection: width that features and label set are each projected to (Sect. 4.1: 256).
        sampling: how a label set is drawn from G: soft Gumbel-sigmoid samples, hard ones with a straight-through
            gradient, or "none": the probabilities themselves (row e of Table 3).
        negatives: mismatched pairs as a second kind of negative, Eq. 4; without them: row c.
        conditional: whether the critic sees the image; unconditional implies no negatives: row d.
        critic_lr: Adam's learning rate for the critic (Sect. 4.1: 1e-4).
        critic_beta1, critic_beta2: Adam's, for the critic (usual for WGAN-GP; the paper states none).
        leaky_slope: of the critic's LeakyReLU (the paper states none).
    """

    critic: CriticKind = "wgan-gp"
    freeze_generator: bool = False
    alpha: float = 10.0
    lambda_gp: float = 10.0
    critic_steps: int = 3
    critic_warmup: int = 0
    inverse_temperature: float = 0.9
    noise_samples: int | None = None
    critic_layers: int | None = None
    critic_width: int = 512
    critic_projection: int = 256
    sampling: Sampling = "gumbel"
    negatives: bool = True
    conditional: bool = True
    critic_lr: float | None = None
    critic_beta1: float = 0.5
    critic_beta2: float = 0.9
    leaky_slope: float = 0.2

    STAGE: ClassVar[str] = "adversarial"
    HEAD: ClassVar[Mapping[str, Any]] = {"batch_size": 128, "lr": 1e-4}
    FULL: ClassVar[Mapping[str, Any]] = {"batch_size": 32, "lr": 1e-4}
    HEAD_LENGTH: ClassVar[tuple[int, int]] = (20, 200)  # epochs, and updates at least
    FULL_LENGTH: ClassVar[tuple[int, int]] = (5, 50)
    PAPER: ClassVar[Mapping[str, Any]] = {"critic_layers": 8, "critic_lr": 1e-4}
    NCE: ClassVar[Mapping[str, Any]] = {"critic_layers": 1, "critic_lr": 3e-4, "noise_samples": 16}

    NCE_HEAD_LENGTH: ClassVar[tuple[int, int]] = (20, 500)

    def resolved(self) -> AdversarialConfig:
        """The same settings with every None filled in that depends on mode or critic."""
        own = self.NCE if self.critic == "nce" else self.PAPER
        given = {name: value for name, value in own.items() if getattr(self, name) is None}
        return replace(super().resolved(), **given)

    @property
    def _length(self) -> tuple[int, int]:
        frozen = self.critic == "nce" and self.freeze_generator
        return self.NCE_HEAD_LENGTH if frozen and not self.full else super()._length

    @property
    def critic_depth(self) -> int:
        """The critic's hidden layers in a resolved config."""
        if self.critic_layers is None:
            raise ValueError("the config is not resolved yet")
        return self.critic_layers

    @property
    def critic_shape(self) -> dict[str, Any]:
        """What builds the critic beside L and F, in a resolved config; JSON values, which a checkpoint keeps."""
        return {
            "layers": self.critic_depth,
            "width": self.critic_width,
            "projection": self.critic_projection,
            "slope": self.leaky_slope,
            "conditional": self.conditional,
        }

    @property
    def critic_learning_rate(self) -> float:
        """The critic's learning rate in a resolved config."""
        if self.critic_lr is None:
            raise ValueError("the config is not resolved yet")
        return self.critic_lr

    @property
    def samples_per_image(self) -> int:
        """The samples of G an image in a resolved config of an "nce" critic."""
        if self.noise_samples is None:
            raise ValueError("the config is not resolved yet")
        return self.noise_samples

    @property
    def stage(self) -> str:
        """`control` without a critic, `critic` without a generator in training: they lie beside the run itself."""
        if self.critic == "none":
            return "control"
        return "critic" if self.freeze_generator else self.STAGE

    @property
    def with_negatives(self) -> bool:
        """Whether the critic gets mismatched pairs: they mean nothing to one that sees no image, or to a ratio."""
        return self.negatives and self.conditional and self.critic == "wgan-gp"


@dataclass(frozen=True)
class DecisionConfig:
    """Which labels make the predicted set.

    Attributes:
        rule: "threshold"; or with a run's critic "rerank": the set with the best log p_G(y|x) + beta D(y, x), and
            "expected-f1": the one with the best expected F1 where p(y|x) is proportional to p_G(y|x) exp(beta D(y, x)).
        beta: the critic's weight; None for the one chosen on val and kept in the checkpoint.
        threshold: a probability, "tuned" or "tuned-per-label" (both found on val and kept in the checkpoint); None for
            0.5, or for no threshold at all where `top_k` is given.
        top_k: keep the k most probable labels (of those above the threshold, if one is given).
        non_empty: an empty set becomes its most probable label.
        ap: "step" average precision (scikit-learn's), or "voc", the interpolated one.
    """

    rule: Decided = "threshold"
    beta: float | None = None
    threshold: str | None = None
    top_k: int | None = None
    non_empty: bool = False
    ap: Literal["step", "voc"] = "step"


@dataclass(frozen=True)
class AuditConfig:
    """How a data set's labels are audited by networks that have not seen them.

    Attributes:
        folds: parts that the rows are drawn into; each is scored by networks trained on the others.
        repeats: draws of the folds, whose logits and evidence are averaged (two found 3 points more of miml2000's
            planted mistakes in average precision than one).
        held_out: the share of those others that chooses the best evaluation.
        patience: evaluations of the critic without a better one after which it stops: on few rows it soon learns labels
            by heart, noise and all.
        hidden, steps: of the networks; None for each stage's default.
        seed: of folds and networks.
        top: findings in the gallery.
    """

    folds: int = 5
    repeats: int = 2
    held_out: float = 0.1
    patience: int = 2
    hidden: int | None = None
    steps: int | None = None
    seed: int = 0
    top: int = 100

    @property
    def training(self) -> dict[str, Any]:
        """The settings of every network, as `TrainingConfig` takes them."""
        return {name: getattr(self, name) for name in ("hidden", "steps", "seed")}


@dataclass(frozen=True)
class ReproduceConfig:
    """Which rows of the paper's tables are made, and how their networks are trained.

    Attributes:
        tables: of 1 (COCO), 2 (NUS-WIDE), 3 (ablations); None for those that fit the data set.
        backbones: of Tables 1 and 2; the rivals, the companions and Table 3 take the first. Empty for the data set's.
        seeds: networks trained for each row, with the seeds 0, 1, ...; every row of the paper is one network.
        rivals: the rows WARP, CNN-RNN, Att-RNN and RLSD.
        companions: today's strong losses and heads, each with its control and its critic.
        full, epochs, steps, batch_size, lr, hidden: of both stages of every row; None for each stage's default.
    """

    tables: tuple[int, ...] | None = None
    backbones: tuple[str, ...] = ()
    seeds: int = 3
    rivals: bool = True
    companions: bool = False
    full: bool = False
    epochs: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    hidden: int | None = None

    @property
    def training(self) -> dict[str, Any]:
        """The settings of every network, as `TrainingConfig` takes them."""
        return {name: getattr(self, name) for name in ("full", "epochs", "steps", "batch_size", "lr", "hidden")}


def changed(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Name the settings that differ, each as "alpha 10.0 there, 5.0 here"."""
    return [
        f"{name} {theirs.get(name)!r} there, {mine.get(name)!r} here"
        for name in sorted(mine.keys() | theirs.keys())
        if mine.get(name) != theirs.get(name)
    ]


def pick(config: type[Any], settings: Mapping[str, Any]) -> Any:  # noqa: ANN401 - an instance of the class given
    """Build a config from the settings that it knows, ignoring others."""
    known = {f.name for f in fields(config)}
    return config(**{name: value for name, value in settings.items() if name in known})

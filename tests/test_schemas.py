"""Files that labeldep reads back: a field of another type or range is named, before it is used, by every reader."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sandbox import Sandbox, only

from labeldep_cli.config import AdversarialConfig, Source, pick
from labeldep_cli.errors import CheckpointError
from labeldep_cli.runs import checkpoint
from labeldep_cli.schemas import Count, NonNegative, Real, Share, conform, parse_json


class Inner(TypedDict):
    b: Count


class Outer(TypedDict):
    a: list[Inner]


class TestConform:
    @pytest.mark.parametrize("value", [0, 1, 2**63 - 1])
    def test_counts(self, value):
        assert conform(value, Count) == value

    @pytest.mark.parametrize("value", [-1, 2**63, 10**30, True, 1.0, "1", None, [], {}])
    def test_what_is_no_count(self, value):
        with pytest.raises(ValueError, match=r"^steps: expected int"):
            conform(value, Count, "steps")

    @pytest.mark.parametrize("schema", [Real, NonNegative, Share])
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 10**400, True, "1", None, []])
    def test_what_is_no_number(self, schema, value):
        with pytest.raises(ValueError, match=r"^lr: "):
            conform(value, schema, "lr")

    def test_whole_numbers_are_numbers(self):
        assert conform(1, Share) == 1.0

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ({"a": [{"b": "x"}]}, r"f.a\[0\].b: expected int, got str"),
            ({}, "it has no f.a"),
            ({"a": [{}]}, r"it has no f.a\[0\].b"),
            ({"a": {}}, "f.a: expected a list, got an object"),
            ([], "f: expected an object, got a list"),
            ({"a": [{"b": -(10**400)}]}, r"f.a\[0\].b: expected int >= 0"),
        ],
    )
    def test_the_field_is_named(self, value, said):
        with pytest.raises(ValueError, match=f"^{said}$"):
            conform(value, Outer, "f")

    def test_a_text_that_is_nested_too_deeply(self):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_json("[" * 200_000)


@pytest.mark.parametrize(
    ("config", "settings", "said"),
    [
        (Source, {"dataset": 3}, "dataset: expected str, got int"),
        (Source, {"dataset": "x", "val_fraction": 7.0}, "val_fraction: 7.0 is out of range"),
        (Source, {"dataset": "x", "val_fraction": float("nan")}, "val_fraction: nan is out of range"),
        (AdversarialConfig, {"critic": "gan"}, "critic: invalid enum value 'gan'"),
        (AdversarialConfig, {"alpha": -1.0}, "alpha: -1.0 is out of range"),
        (AdversarialConfig, {"critic_steps": 0}, "critic_steps: 0 is out of range"),
        (AdversarialConfig, {"full": 1}, "full: expected bool, got int"),
    ],
)
def test_settings_have_the_types_and_ranges_of_their_flags(config, settings, said) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        pick(config, settings)


def test_settings_that_are_not_known_are_ignored() -> None:
    assert pick(AdversarialConfig, {"alpha": 3, "of_tomorrow": []}) == AdversarialConfig(alpha=3.0)


# The files, and the commands that read them


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """Ready features, a run on them, one with a critic, and an audit."""
    sandbox = Sandbox(tmp_path_factory.mktemp("schemas"))
    draws = np.random.default_rng(0)
    x = draws.normal(size=(60, 4)).astype(np.float32)
    split = ["train"] * 36 + ["val"] * 12 + ["test"] * 12
    np.savez(
        sandbox.folder / "rows.npz",
        X=x,
        Y=(x[:, :3] + draws.normal(size=(60, 3)) > 0).astype(np.int8),
        label_names=np.array(["cat", "dog", "mat"]),
        split=np.array(split),
    )
    for words in (
        ("pretrain", "--dataset", sandbox.folder / "rows.npz", "--steps", 4),
        ("adversarial", "--dataset", sandbox.folder / "rows.npz", "--critic", "nce", "--steps", 4),
        (
            "audit",
            sandbox.folder / "rows.npz",
            "--folds",
            2,
            "--repeats",
            1,
            "--steps",
            20,
            "--out",
            sandbox.folder / "runs" / "audit",
        ),
    ):
        result = sandbox.run(*words)
        assert result.exit_code == 0, result.stderr
    return sandbox


@pytest.fixture
def sandbox(made: Sandbox, tmp_path: Path) -> Sandbox:
    """A copy; the data set stays where it is."""
    shutil.copytree(made.folder / "runs", tmp_path / "runs")
    return Sandbox(tmp_path)


def changed(path: Path, keys: tuple[Any, ...], value: Any) -> None:
    """Set a value anywhere in a JSON file."""
    document = json.loads(path.read_text())
    document.pop("checksum", None)
    _set(document, keys, value)
    path.write_text(json.dumps(document))


def changed_facts(path: Path, keys: tuple[Any, ...], value: Any) -> None:
    """Set a fact of a checkpoint, as a file of the version without checksums has it."""
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["labeldep"])
    _set(facts, keys, value)
    save_file(load_file(path), path, {"labeldep": json.dumps({**facts, "format": 1})})


def _set(document: Any, keys: tuple[Any, ...], value: Any) -> None:
    for key in keys[:-1]:
        document = document[key]
    document[keys[-1]] = value


CONFIG, RESULT, BEST = "*-pretrain/config.json", "*-pretrain/result.json", "*-pretrain/best.safetensors"
CRITIC, LAST, ROWS = "*-adversarial/best.safetensors", "*-pretrain/last.safetensors", "*-pretrain/rows.safetensors"
AUDIT = "audit/audit.json"
EVAL, RERANK = ("eval", "pretrain"), ("eval", "adversarial", "--decision", "rerank")

CASES: list[tuple[str, Callable[..., None], tuple[Any, ...], Any, tuple[str, ...], str]] = [
    (CONFIG, changed, ("labels",), {}, EVAL, "config.json is broken: labels: expected a list, got an object"),
    (CONFIG, changed, ("labels",), [], EVAL, "config.json is broken: labels: expected a list of length >= 1"),
    (CONFIG, changed, ("settings", "seed"), "0", EVAL, "config.json is broken: settings.seed: expected int, got str"),
    (CONFIG, changed, ("settings", "lr"), -1, EVAL, "config.json is broken: settings.lr: -1.0 is out of range"),
    (CONFIG, changed, ("data_dir",), None, EVAL, "config.json is broken: data_dir: expected str, got null"),
    (CONFIG, changed, ("steps",), 0, ("runs",), "left out: .*: its config.json is broken: steps: expected int >= 1"),
    (CONFIG, changed, ("dataset",), None, ("runs",), "is broken: dataset: expected an object, got null"),
    (BEST, changed_facts, ("labels",), ["a", "a", "b"], EVAL, "best.safetensors .*: labels: expected no name twice"),
    (BEST, changed_facts, ("labels",), "abc", EVAL, "best.safetensors .*: labels: expected a list, got str"),
    (BEST, changed_facts, ("feature_dim",), 0, EVAL, "best.safetensors .*: feature_dim: expected int >= 1"),
    (
        BEST,
        changed_facts,
        ("feature_dim",),
        10**12,
        EVAL,
        "was trained on ready features, 1000000000000 a row",
    ),
    (BEST, changed_facts, ("hidden",), 10**12, EVAL, "best.safetensors does not fit this generator.head"),
    (BEST, changed_facts, ("head",), "mlp", EVAL, "best.safetensors .*: head: invalid enum value 'mlp'"),
    (BEST, changed_facts, ("thresholds", "tuned"), 2.0, EVAL, "thresholds.tuned: expected float <= 1"),
    (BEST, changed_facts, ("thresholds", "tuned-per-label"), [0.5], EVAL, "tuned-per-label: expected 3 numbers"),
    (BEST, changed_facts, ("confidence", "threshold", "temperature"), 0, EVAL, "temperature: expected float > 0"),
    (
        CRITIC,
        changed_facts,
        ("critic", "width"),
        10**15,
        RERANK,
        "best.safetensors does not fit this critic: size mismatch",
    ),
    (CRITIC, changed_facts, ("critic", "width"), "x", RERANK, "critic.width: expected int, got str"),
    (CRITIC, changed_facts, ("critic", "members"), 10**9, RERANK, "critic.members: expected int <= 10000"),
    (CRITIC, changed_facts, ("critic",), {"kind": "kernel"}, RERANK, "it has no critic.landmarks"),
    (CRITIC, changed_facts, ("beta",), float("nan"), RERANK, "best.safetensors .*: beta: expected float >= 0"),
    (ROWS, changed_facts, ("has_features",), "x", EVAL, "rows.safetensors .*: has_features: expected bool, got str"),
    (ROWS, changed_facts, ("labels",), [str(k) for k in range(20)], EVAL, "rows.safetensors is no labeldep checkpoint"),
    (AUDIT, changed, ("cards", 0, "suspects", 0, "score"), None, ("review",), r"cards\[0\].suspects\[0\].score: expe"),
    (AUDIT, changed, ("cards", 0, "suspects"), [], ("review",), r"cards\[0\].suspects: expected a list of length >= 1"),
    (AUDIT, changed, ("cards", 0, "suspects", 0, "label"), "[/b]", ("review",), r"cards\[0\]: '\[/b\]' is none of its"),
    (AUDIT, changed, ("estimate", "sure"), 7, ("review",), "audit.json is damaged: estimate.sure: expected float <= 1"),
    (AUDIT, changed, ("dataset", "dataset"), [], ("review",), "audit.json is damaged: dataset: dataset: expected str"),
]


@pytest.mark.parametrize(("file", "change", "keys", "value", "words", "said"), CASES)
def test_a_field_of_another_kind_is_named(
    sandbox: Sandbox,
    file: str,
    change: Callable[..., None],
    keys: tuple[Any, ...],
    value: Any,
    words: tuple[str, ...],
    said: str,
) -> None:
    path = only(sandbox.folder / "runs", file)
    change(path, keys, value)
    folder = (path.parent,) if words == ("review",) else ()
    result = sandbox.run(*words, *folder)
    assert result.exit_code == (0 if words == ("runs",) else 1), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert re.search(said, result.stderr), result.stderr
    assert str(path.parent) in result.stderr
    assert len(result.stderr.strip().splitlines()) > 1 or words == ("runs",), "a remedy"


@pytest.mark.parametrize("value", ["x", 0.25])
@pytest.mark.parametrize("keys", [("val", "OF1"), ("val", "per_label"), ("steps",), ("thresholds",), ("beta",)])
def test_a_result_that_is_damaged_is_made_again(sandbox: Sandbox, keys: tuple[str, ...], value: object) -> None:
    """Also where it is a result, but not that of the checkpoints."""
    path = only(sandbox.folder / "runs", RESULT)
    sound = path.read_bytes()
    changed(path, keys, value)
    dataset = json.loads(only(sandbox.folder / "runs", CONFIG).read_text())["settings"]["dataset"]
    told = sandbox.json("pretrain", "--dataset", dataset, "--steps", 4, "--out", path.parent)
    assert path.read_bytes() == sound and told["steps"] == 4


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("step",), -1, "step: expected int >= 0"),
        (("history", 0, "val", "mAP"), "x", r"history\[0\]: val.mAP: expected float, got str"),
        (("best", "thresholds"), [], "best.thresholds: expected an object, got a list"),
        (("stopped",), None, "stopped: expected bool, got null"),
    ],
)
def test_a_training_does_not_go_on_from_broken_facts(
    sandbox: Sandbox, keys: tuple[Any, ...], value: Any, said: str
) -> None:
    path = only(sandbox.folder / "runs", LAST)
    changed_facts(path, keys, value)
    (path.parent / "result.json").unlink()
    dataset = json.loads(only(sandbox.folder / "runs", CONFIG).read_text())["settings"]["dataset"]
    result = sandbox.run("pretrain", "--dataset", dataset, "--steps", 4, "--out", path.parent)
    assert result.exit_code == 1 and re.search(f"last.safetensors .*: {said}", result.stderr), result.stderr


@pytest.mark.parametrize(
    ("file", "keys", "value", "words"),
    [
        (CONFIG, ("settings", "split_seed"), 7, EVAL),
        (CONFIG, ("settings", "batch_size"), 7, ("pretrain", "--out")),
        (AUDIT, ("cards", 0, "suspects", 0, "score"), 0.5, ("review",)),
    ],
)
def test_a_changed_value_is_damage_or_is_confirmed(
    sandbox: Sandbox, file: str, keys: tuple[Any, ...], value: Any, words: tuple[str, ...]
) -> None:
    path = only(sandbox.folder / "runs", file)
    document = json.loads(path.read_text())
    _set(document, keys, value)
    path.write_text(json.dumps(document))
    dataset = json.loads(only(sandbox.folder / "runs", CONFIG).read_text())["settings"]["dataset"]
    folder = {"review": (path.parent,), "pretrain": (path.parent, "--dataset", dataset)}.get(words[0], ())
    result = sandbox.run(*words, *folder)
    assert result.exit_code == 1 and f"{path} is " in result.stderr
    assert "it is not as it was written; if you changed it on purpose, remove its field checksum" in result.stderr
    if words == EVAL:
        changed(path, keys, value)
        assert sandbox.json(*words)["provenance"]["split_seed"] == 7


def test_a_config_that_is_no_config(sandbox: Sandbox) -> None:
    path = only(sandbox.folder / "runs", CONFIG)
    changed(path, ("settings", "alpha"), 3)
    words = ("pretrain", "--dataset", "x.npz", "--config", path)
    assert "there is no file" in sandbox.run(*words).stderr, "alpha is none of its settings"
    changed(path, ("settings", "epochs"), "many")
    assert "is not the config.json of a run: settings.epochs: expected int" in sandbox.run(*words).stderr


def test_no_claim_takes_memory(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    tensors = {"head.weight": torch.zeros(3, 4)}
    with pytest.raises(CheckpointError, match=r"does not fit this head: size mismatch for weight"):
        checkpoint.require_shapes("head", tensors, lambda _: torch.nn.Linear(9_999_999_999, 3, bias=False), path)
    with pytest.raises(CheckpointError, match="claims a head that cannot be built"):
        checkpoint.require_shapes("head", tensors, lambda _: torch.nn.Linear(10**15, 10**15), path)
    checkpoint.require_shapes("head", tensors, lambda _: torch.nn.Linear(4, 3, bias=False), path)

"""Files of a run that have changed on the disk: an error that names the file, never another result."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from labeldep_cli.datasets.image_file import FileState
from labeldep_cli.errors import CheckpointError
from labeldep_cli.features.store.kind import FeatureKind
from labeldep_cli.features.store.known_files import KnownFiles
from labeldep_cli.runs import checkpoint
from labeldep_cli.runs.layout import FACTS_KEY, METRICS, read_metrics

TENSORS = {
    "head.weight": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
    "head.known": torch.tensor([[True, False], [False, True]]),
    "head.half": torch.ones(5, dtype=torch.bfloat16),
    "steps": torch.tensor(7.0),
    "none": torch.zeros(0, 3),
    "expanded": torch.tensor([5]).expand(1, 1),
}
FACTS = {"step": 7, "thresholds": {"tuned": 0.3171828, "tuned-per-label": [1e-300, 0.1]}, "labels": ["café", "\ud800"]}


def same(tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> bool:
    return facts == FACTS and all(torch.equal(tensors[name], value) for name, value in TENSORS.items())


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    checkpoint.save(path, TENSORS, FACTS)
    assert same(*checkpoint.load(path))


def test_no_flipped_bit_gives_another_network(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    checkpoint.save(path, TENSORS, FACTS)
    sound, draws = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for place in draws.integers(len(sound), size=500):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1 << int(draws.integers(8))]) + sound[place + 1 :])
        try:
            assert same(*checkpoint.load(path)), place
        except CheckpointError as error:
            refused += 1
            assert str(path) in error.what and "--fresh" in error.remedy
    assert refused > 400


def test_a_changed_fact_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    checkpoint.save(path, TENSORS, FACTS)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"0.3171828", b"0.8171828"))
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.load(path)


def test_a_checkpoint_of_a_version_without_checksums_is_read(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    save_file(TENSORS, path, {FACTS_KEY: json.dumps({"format": 1, **FACTS})})
    assert same(*checkpoint.load(path))


GOOD = {"step": 4, "bce": 0.5, "val": {"mAP": 1.0, "CF1": 2, "OF1": 3.0, "exact_match": 4.0, "decision": {}}}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"step": "4"}, "step: expected int, got str"),
        ({"step": -1}, "step: expected int >= 0"),
        ({"val": [1]}, "val: expected an object, got a list"),
        ({"bce": None}, "bce: expected float, got null"),
        ({"val": {**GOOD["val"], "mAP": "1"}}, "val.mAP: expected float, got str"),
        ({"val": {"mAP": 1.0}}, "it has no val.CF1"),
    ],
)
def test_a_line_that_is_no_evaluation(changes: dict[str, Any], what: str, tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text("".join(json.dumps(one) + "\n" for one in (GOOD, {**GOOD, **changes})))
    with pytest.raises(CheckpointError, match=f"{METRICS}, line 2, is no evaluation: {what}"):
        read_metrics(tmp_path)


@pytest.mark.parametrize("line", ["", "{", "[]", "1", "null", "[" * 100_000])
def test_a_line_that_is_no_record(line: str, tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text(json.dumps(GOOD) + "\n" + line + "\n")
    with pytest.raises(CheckpointError, match="line 2, is no evaluation"):
        read_metrics(tmp_path)


@pytest.mark.parametrize("value", [None, 1, ["x"], {}])
def test_a_store_s_identity_has_its_types(value: object) -> None:
    kind = FeatureKind("scenesnet", "0" * 64, "224x224", "float32")
    assert FeatureKind.from_json(kind.to_json()) == kind
    record = json.loads(kind.to_json())
    for name in ("backbone", "weights_sha256", "preprocessing", "compute_dtype", "spatial"):
        with pytest.raises((ValueError, KeyError, TypeError)):
            FeatureKind.from_json(json.dumps({**record, name: value}))
    with pytest.raises((ValueError, KeyError, TypeError)):
        FeatureKind.from_json(json.dumps(value))


def test_a_database_of_known_files_that_has_changed_costs_time_alone(tmp_path: Path) -> None:
    """Each answer is what was stored, or that nothing is known."""
    known = KnownFiles(tmp_path)
    keys = [bytes([k]) * 8 for k in range(30)]
    stored = [(FileState(key, 100, 10**18), key * 4) for key in keys]
    known.remember(stored, [(key * 4, 4) for key in keys[:9]])
    known.remember_looks("rules", {key * 4: k for k, key in enumerate(keys)})
    sound, draws = known.path.read_bytes(), np.random.default_rng(0)
    states, told, lost = [state for state, _ in stored], {state.key: sha256 for state, sha256 in stored}, 0
    for place in draws.integers(len(sound), size=400):
        known.path.write_bytes(sound[:place] + bytes([sound[place] ^ 255]) + sound[place + 1 :])
        contents = known.contents(states, keys)
        differing = [found for found, key in zip(contents, keys, strict=True) if found not in (None, told[key])]
        assert len(differing) <= 1, "a digest with a changed byte is that of no image"
        lost += None in contents
        known.replaced(), known.reasons(), known.looks("rules"), known.files()
    assert lost > 10


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE files SET size = 'x'",
        "UPDATE files SET sha256 = x'00'",
        "UPDATE files SET sha256 = NULL",
        "UPDATE unusable SET reason = 'x'",
        "UPDATE unusable SET reason = 999999999999",
        "UPDATE looks SET look = 7",
        "UPDATE looks SET look = zeroblob(1000)",
        "ALTER TABLE looks RENAME COLUMN look TO sight",
        "DROP TABLE replaced",
    ],
)
def test_a_database_of_known_files_with_other_values(tmp_path: Path, change: str) -> None:
    known = KnownFiles(tmp_path)
    key, state = b"k" * 8, FileState(b"k" * 8, 100, 10**18)
    known.remember([(state, b"d" * 32)], [(b"d" * 32, 4)])
    known.remember_looks("rules", {b"d" * 32: 7})
    with closing(sqlite3.connect(known.path)) as database, database:
        database.execute(change)
    spared = change.split()[2 if change.startswith(("ALTER", "DROP")) else 1]
    assert known.contents([state], [key]) == [None if spared == "files" else b"d" * 32]
    assert known.reasons() == ({} if spared == "unusable" else {b"d" * 32: 4})
    assert known.looks("rules") == ({} if spared == "looks" else {b"d" * 32: 7})
    assert known.replaced() == []

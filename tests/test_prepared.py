"""Who names no backbone or no weights goes on with what is prepared; who names a run takes what it was trained on."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from sandbox import Sandbox, make_table, only

from labeldep_cli.config import DEFAULT_BACKBONE, PretrainConfig, Source, Workspace
from labeldep_cli.datasets import registry
from labeldep_cli.datasets.draw import Draw
from labeldep_cli.features.decode import identify
from labeldep_cli.features.store.store import WEIGHTS, FeatureStore
from labeldep_cli.models.backbones import classifier, find_backbone
from labeldep_cli.progress import SilentReporter
from labeldep_cli.projects import prepared as prepared_module
from labeldep_cli.projects.prepared import find_prepared, settle

SMALL = "squeezenet1_1"


class Notes(SilentReporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """Features of all images, with weights from a file; no run."""
    sandbox = Sandbox(tmp_path_factory.mktemp("prepared"))
    make_table(sandbox.table.parent, rows=20)
    torch.manual_seed(0)
    weights = sandbox.folder / "w.pth"
    torch.save(classifier(find_backbone(SMALL)).state_dict(), weights)
    sandbox.json("extract", "--dataset", sandbox.table, "--backbone", SMALL, "--weights", weights)
    return sandbox


@pytest.fixture
def sandbox(prepared: Sandbox, tmp_path: Path) -> Sandbox:
    """A copy with a features folder and runs of its own; the images and weights stay where they are."""
    shutil.copytree(prepared.folder / "data", tmp_path / "data")
    (tmp_path / "pets").symlink_to(prepared.table.parent)
    (tmp_path / "w.pth").symlink_to(prepared.folder / "w.pth")
    return Sandbox(tmp_path)


def settled(sandbox: Sandbox, table: Path | None = None, **said: str) -> tuple[str | None, str | None, list[str]]:
    """Backbone and weights as they are settled, and the notes."""
    workspace = Workspace(sandbox.folder / "data", sandbox.folder / "runs")
    source = Source(str((table or sandbox.table).resolve()), **said)
    dataset = registry.load(source.dataset, workspace.data_dir, Draw(0.05, 0.25, 0), SilentReporter())
    notes = Notes()
    found = settle(workspace, source, dataset, {}, notes)
    return found.backbone, found.weights, notes.said


class TestOnePreparedChoice:
    def test_is_taken_and_said(self, sandbox: Sandbox, prepared: Sandbox) -> None:
        weights = str(prepared.folder / "w.pth")
        note = f"{SMALL} with {weights}: its features are on this disk; choose another with --backbone and --weights"
        assert settled(sandbox) == (SMALL, weights, [note])

    def test_its_path_is_short_below_the_working_directory(
        self, sandbox: Sandbox, prepared: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(prepared.folder)
        assert settled(sandbox)[2] == [
            f"{SMALL} with w.pth: its features are on this disk; choose another with --backbone and --weights"
        ]

    def test_only_the_weights_were_forgotten(self, sandbox: Sandbox, prepared: Sandbox) -> None:
        backbone, weights, (note,) = settled(sandbox, backbone=SMALL)
        assert (backbone, weights) == (SMALL, str(prepared.folder / "w.pth"))
        assert note.endswith("choose another with --weights")

    def test_only_the_backbone_was_forgotten(self, sandbox: Sandbox) -> None:
        by_link = str(sandbox.folder / "w.pth")
        assert settled(sandbox, weights=by_link)[0] == SMALL, "weights go by their hash, not by their path"
        assert settled(sandbox, weights="none")[:2] == (DEFAULT_BACKBONE, "none")

    @pytest.mark.parametrize("said", [{"backbone": SMALL, "weights": "none"}, {"backbone": "resnet18"}])
    def test_what_is_said_goes_before_it(self, sandbox: Sandbox, said: dict[str, str]) -> None:
        assert settled(sandbox, **said) == (said["backbone"], said.get("weights", "default"), [])

    def test_what_the_default_is_needs_no_word(self, sandbox: Sandbox) -> None:
        assert settled(sandbox, backbone=SMALL, weights="default") == (SMALL, "default", [])


class TestNothingIsPrepared:
    def test_by_the_features_of_other_images(self, sandbox: Sandbox, tmp_path: Path) -> None:
        make_table(tmp_path / "other", rows=4)
        for row in range(4):  # other pixels
            (tmp_path / "other" / "img" / f"{row}.png").write_bytes(
                (tmp_path / "pets" / "img" / f"{row}.png").read_bytes() + b"\0"
            )
        assert settled(sandbox, tmp_path / "other" / "labels.csv") == (DEFAULT_BACKBONE, "default", [])

    def test_where_the_weights_are_gone_or_others(self, sandbox: Sandbox) -> None:
        store = only(sandbox.folder / "data" / "features", f"{SMALL}-*")
        (store / WEIGHTS).write_text(json.dumps([str(sandbox.folder / "gone.pth")]))
        assert settled(sandbox) == (DEFAULT_BACKBONE, "default", [])
        (sandbox.folder / "gone.pth").write_bytes(b"others")
        assert settled(sandbox) == (DEFAULT_BACKBONE, "default", [])

    def test_where_nobody_knows_where_the_weights_lay(self, sandbox: Sandbox) -> None:
        store = only(sandbox.folder / "data" / "features", f"{SMALL}-*")
        for text in (None, "{", "{}", "[3]"):
            (store / WEIGHTS).unlink(missing_ok=True)
            if text is not None:
                (store / WEIGHTS).write_text(text)
            assert settled(sandbox) == (DEFAULT_BACKBONE, "default", []), text

    def test_of_a_data_set_with_a_backbone_of_its_own(self, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        """As `scenes` is: its packaged backbone stays, whatever features are there."""
        workspace = Workspace(sandbox.folder / "data", sandbox.folder / "runs")
        dataset = registry.load(str(sandbox.table.resolve()), workspace.data_dir, Draw(0.05, 0.25, 0), SilentReporter())
        object.__setattr__(dataset, "backbone", "scenesnet")
        found = settle(workspace, Source("scenes"), dataset, {}, SilentReporter())
        assert (found.backbone, found.weights) == ("scenesnet", "default")


def test_of_several_the_default_stays_and_they_are_named(sandbox: Sandbox, prepared: Sandbox) -> None:
    words = ("--dataset", sandbox.table.resolve(), "--backbone", "squeezenet1_0", "--weights", "none")
    sandbox.json("extract", *words)
    backbone, weights, (note,) = settled(sandbox)
    assert (backbone, weights) == (DEFAULT_BACKBONE, "default")
    assert note.startswith(f"{DEFAULT_BACKBONE} is used, but there are features or runs with ")
    assert "squeezenet1_0 with random weights" in note
    assert f"{SMALL} with {prepared.folder / 'w.pth'}" in note
    assert note.endswith("choose with --backbone and --weights")
    assert settled(sandbox, backbone="squeezenet1_0")[1] == "none", "of this backbone there is one"


def test_a_run_prepares_as_features_do(sandbox: Sandbox, prepared: Sandbox) -> None:
    table = sandbox.table.resolve()
    result = sandbox.run("pretrain", "--dataset", table, "--steps", 2)
    assert result.exit_code == 0, result.stderr
    assert f"{SMALL} with" in result.stderr
    run = only(sandbox.folder / "runs", "*-pretrain")
    settings = json.loads((run / "config.json").read_text())["settings"]
    assert (settings["backbone"], settings["weights"]) == (SMALL, str(prepared.folder / "w.pth"))
    shutil.rmtree(sandbox.folder / "data" / "features")
    assert settled(sandbox)[2] == [
        f"{SMALL} with {prepared.folder / 'w.pth'}: as in the run on this disk; "
        "choose another with --backbone and --weights"
    ]


def test_a_broken_store_prepares_nothing(sandbox: Sandbox) -> None:
    store = only(sandbox.folder / "data" / "features", f"{SMALL}-*")
    for segment in store.glob("test-*.h5"):
        segment.write_bytes(b"broken")
    assert FeatureStore.all_in(store.parent)
    assert settled(sandbox) == (DEFAULT_BACKBONE, "default", [])


def test_nothing_is_looked_at_where_nothing_is_there(tmp_path: Path, prepared: Sandbox) -> None:
    """No file of the data set is looked up: that would take a while for many images."""
    workspace = Workspace(tmp_path / "data", tmp_path / "runs")
    dataset = registry.load(str(prepared.table), workspace.data_dir, Draw(0.05, 0.25, 0), SilentReporter())
    files: dict[str, object] = {}
    assert find_prepared(workspace, dataset, None, files) == []  # type: ignore[arg-type]
    assert not files


class TestMovedImages:
    """Images at new paths are recognised by the content of a few of them."""

    @pytest.fixture
    def moved(self, sandbox: Sandbox, prepared: Sandbox, tmp_path: Path) -> Path:
        """The table of a copy, all of whose paths and times are new."""
        shutil.copytree(prepared.table.parent, tmp_path / "moved", copy_function=shutil.copyfile)
        return tmp_path / "moved" / "labels.csv"

    def change(self, table: Path, rows: range) -> None:
        for row in rows:
            path = table.parent / "img" / f"{row}.png"
            path.write_bytes(path.read_bytes() + b"\0")

    def test_a_renamed_folder_is_prepared(self, sandbox: Sandbox, moved: Path) -> None:
        backbone, _, (note,) = settled(sandbox, moved)
        assert backbone == SMALL
        assert "its features are on this disk" in note

    def test_its_features_are_not_computed_again(self, sandbox: Sandbox, moved: Path) -> None:
        result = sandbox.run("extract", "--dataset", moved)
        assert result.exit_code == 0, result.stderr
        assert f"{SMALL} with" in result.stderr
        assert len(list((sandbox.folder / "data" / "features").glob("*/"))) == 1
        assert "to compute" not in result.stderr

    def test_only_where_most_images_are_the_same(self, sandbox: Sandbox, moved: Path) -> None:
        self.change(moved, range(4))
        assert settled(sandbox, moved)[0] == SMALL
        self.change(moved, range(4, 14))
        assert settled(sandbox, moved) == (DEFAULT_BACKBONE, "default", [])

    def test_missing_files_count_as_others(self, sandbox: Sandbox, moved: Path) -> None:
        for row in range(16):
            (moved.parent / "img" / f"{row}.png").unlink()
        assert settled(sandbox, moved) == (DEFAULT_BACKBONE, "default", [])

    def test_few_files_are_read_once_for_all_stores(
        self, sandbox: Sandbox, moved: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = ("--dataset", sandbox.table.resolve(), "--backbone", "squeezenet1_0", "--weights", "none")
        sandbox.json("extract", *words)
        read: list[object] = []

        def counted(files: list[object], workers: int, bar: object) -> list[object]:
            read.extend(files)
            return identify(files, workers, bar)  # type: ignore[arg-type]

        monkeypatch.setattr(prepared_module, "identify", counted)
        (note,) = settled(sandbox, moved)[2]
        assert "squeezenet1_0 with random weights" in note and f"{SMALL} with" in note
        assert len(read) == len(set(read)) == 16 < 20
        read.clear()
        settled(sandbox)
        assert not read, "these paths are known"

    def test_images_that_are_in_a_tar_now(self, sandbox: Sandbox, moved: Path, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "pets.tar", "w") as tar:
            for path in sorted((moved.parent / "img").glob("*.png")):
                tar.add(path, path.name)
                labels = io.BytesIO(json.dumps(["cat"] if int(path.stem) % 2 else ["dog"]).encode())
                info = tarfile.TarInfo(f"{path.stem}.json")
                info.size = len(labels.getvalue())
                tar.addfile(info, labels)
        assert settled(sandbox, tmp_path / "pets.tar")[0] == SMALL


@pytest.fixture(scope="module")
def trained(prepared: Sandbox) -> Path:
    """A run with a draw of its own, in a folder of its own."""
    draw = ("--val-fraction", 0.2, "--split-seed", 3)
    words = ("--dataset", prepared.table, "--backbone", SMALL, "--weights", prepared.folder / "w.pth", *draw)
    return Path(str(prepared.json("pretrain", *words, "--steps", 2, "--out", prepared.folder / "start")["run"]))


class TestFromARun:
    def settings_of(self, sandbox: Sandbox, *words: object) -> dict[str, object]:
        result = sandbox.json("adversarial", "--critic", "none", "--steps", 2, *words)
        return json.loads((Path(str(result["run"])) / "config.json").read_text())["settings"]

    def test_data_set_draw_backbone_and_weights_are_the_runs(self, prepared: Sandbox, trained: Path) -> None:
        settings = self.settings_of(prepared, "--from", trained, "--out", prepared.folder / "a")
        names = ("dataset", "backbone", "weights", "val_fraction", "test_fraction", "split_seed")
        theirs = json.loads((trained / "config.json").read_text())["settings"]
        assert {name: settings[name] for name in names} == {name: theirs[name] for name in names}
        assert settings["val_fraction"] == 0.2
        assert settings["seed"] == PretrainConfig.seed, "what is no matter of the data is not the run's"

    def test_flags_say_otherwise(self, prepared: Sandbox, trained: Path) -> None:
        result = prepared.run(
            "adversarial", "--from", trained, "--backbone", "resnet18", "--out", prepared.folder / "b"
        )
        assert "was trained on squeezenet1_1 features, but these are resnet18 ones" in result.stderr

    def test_common_defaults_do_not_but_the_commands_own_table_does(
        self, prepared: Sandbox, trained: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "labeldep.toml"
        file.write_text('[defaults]\ndataset = "scenes"\nval-fraction = 0.4\n')
        words = ("--from", trained, "--critic", "none", "--steps", 2)
        found = prepared.run("--project", file, "adversarial", *words, "--out", tmp_path / "c")
        assert found.exit_code == 0, found.stderr
        file.write_text('[adversarial]\nbackbone = "resnet18"\n')
        found = prepared.run("--project", file, "adversarial", *words, "--out", tmp_path / "d")
        assert "but these are resnet18 ones" in found.stderr

"""Flags come from the configs: a field is a flag, with its help, default and range, and its value arrives there."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
import typer.main
from typer.testing import CliRunner

import labeldep_cli.config as configs
from labeldep_cli.cli import app, flags
from labeldep_cli.cli.codes import ExitCode
from labeldep_cli.cli.commands import Take, command
from labeldep_cli.config import (
    AdversarialConfig,
    ExtractConfig,
    Machine,
    PretrainConfig,
    ReproduceConfig,
    Source,
    Workspace,
    like,
    setting,
    settings_of,
)

COMMANDS = typer.main.get_command(app).commands
CONFIGS = [
    value
    for value in vars(configs).values()
    if isinstance(value, type) and dataclasses.is_dataclass(value) and value is not configs.Setting
]


@dataclass(frozen=True)
class Wind(Machine):
    """A config of these tests: a machine with two more settings."""

    sails: int = setting(3, "Sails that the mill has.", min=2, max=8)
    turning: bool = setting(True, "Whether the mill turns now.", flag="--turning/--standing")


def made(function: object) -> typer.Typer:
    """An app with one command."""
    found = typer.Typer(rich_markup_mode=None)
    found.command()(command(function))
    return found


def run(function: object, *words: str, **env: str) -> object:
    result = CliRunner().invoke(made(function), list(words), env={**env, "COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    return result


class TestOneFieldIsOneFlag:
    def test_it_appears_with_its_help_default_and_range(self) -> None:
        def mill(*, machine: Wind) -> None: ...

        told = " ".join(run(mill, "--help").stdout.split())
        assert "--sails" in told
        assert "Sails that the mill has." in told
        assert "default: 3" in told
        assert "2<=x<=8" in told
        assert "--turning" in told
        assert "--standing" in told

    def test_its_value_arrives_beside_the_defaults_of_the_others(self) -> None:
        got = []

        def mill(*, machine: Wind) -> None:
            got.append(machine)

        assert run(mill, "--sails", "5", "--standing", "--max-memory", "2KB").exit_code == 0
        assert run(mill).exit_code == 0
        assert got == [Wind(sails=5, turning=False, max_memory=2000), Wind()]

    def test_a_value_beyond_the_range_is_wrong_usage(self) -> None:
        def mill(*, machine: Wind) -> None: ...

        result = run(mill, "--sails", "9")
        assert result.exit_code == ExitCode.USAGE
        assert "'--sails'" in result.stderr

    def test_a_field_added_to_a_real_config_needs_nothing_else(self) -> None:
        """As a field in labeldep_cli/config would, in the real command `pretrain`."""
        more = make_dataclass(
            "PretrainConfig",
            [("dropout", float, setting(0.25, "Share of the features that is dropped.", min=0.0, max=0.9))],
            bases=(PretrainConfig,),
            frozen=True,
        )
        got = []

        def pretrain(*, source: Source, training: more, workspace: Workspace) -> None:
            got.append(training)

        pretrain.__annotations__["training"] = more
        assert run(pretrain, "--dropout", "0.5", "--lr", "0.01").exit_code == 0
        assert got == [more(dropout=0.5, lr=0.01)]


class TestACommandTakesWhatItNeeds:
    def test_only_some(self) -> None:
        got = []

        def some(*, machine: Annotated[Machine, Take("workers")]) -> None:
            got.append(machine)

        assert run(some, "--workers", "2").exit_code == 0
        assert got == [Machine(workers=2)]
        assert "No such option: --device" in run(some, "--device", "cpu").stderr

    def test_all_but_some(self) -> None:
        def some(*, machine: Annotated[Machine, Take(without=("device",))]) -> None: ...

        told = run(some, "--help").stdout
        assert "--workers" in told
        assert "--device" not in told

    def test_words_and_a_default_of_its_own(self) -> None:
        got = []

        def some(
            *,
            machine: Annotated[Machine, Take("workers", help={"workers": "Hands that help."}, default={"workers": 4})],
        ) -> None:
            got.append(machine)

        told = run(some, "--help").stdout
        assert "Hands that help." in told
        assert "default: 4" in told
        assert run(some).exit_code == 0
        assert got == [Machine(workers=4)]

    def test_a_name_that_is_no_setting_is_a_bug(self) -> None:
        def some(*, machine: Annotated[Machine, Take("worker")]) -> None: ...

        with pytest.raises(TypeError, match="Machine has no setting worker"):
            command(some)

    def test_two_of_a_name_are_a_bug(self) -> None:
        def some(*, machine: Machine, device: str = "") -> None: ...

        with pytest.raises(TypeError, match="some has device twice"):
            command(some)

    def test_a_field_that_is_no_setting_is_no_flag(self) -> None:
        assert "group" not in settings_of(ExtractConfig)
        assert "--group" not in {word for parameter in COMMANDS["extract"].params for word in parameter.opts}

    def test_like_is_the_same_flag_of_another_config(self) -> None:
        @dataclass(frozen=True)
        class Other:
            lr: float | None = like(PretrainConfig, "lr", default_text="1", default=0.5)

        one, other = settings_of(PretrainConfig)["lr"], settings_of(Other)["lr"]
        assert Other().lr == 0.5
        assert (other.help, other.min, other.max, other.default_text) == (one.help, one.min, one.max, "1")


class TestValues:
    @pytest.mark.parametrize("words", [("--views", "21"), ("--config", "run.json")])
    def test_a_choice_of_numbers_is_a_number(
        self, words: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("run.json").write_text(json.dumps({"command": "pretrain", "settings": {"views": 21}}))
        got = []

        def extract(*, config: flags.Config = None, seen: ExtractConfig) -> None:
            got.append(seen)

        assert run(extract, *words).exit_code == 0
        assert got == [ExtractConfig(views=21)]
        assert type(got[0].views) is int
        assert run(extract, "--views", "2").exit_code == ExitCode.USAGE

    def test_lists(self) -> None:
        got = []

        def reproduce(*, asked: ReproduceConfig) -> None:
            got.append(asked)

        assert run(reproduce, "--tables", "1,3", "--backbones", "vgg16, resnet101").exit_code == 0
        assert run(reproduce).exit_code == 0
        assert got == [ReproduceConfig(tables=(1, 3), backbones=("vgg16", "resnet101")), ReproduceConfig()]
        assert "'1,x' is no list of numbers such as 1,3" in run(reproduce, "--tables", "1,x").stderr

    def test_the_environment_gives_what_no_flag_gives(self) -> None:
        got = []

        def some(*, workspace: Workspace) -> None:
            got.append(workspace)

        env = {"LABELDEP_DATA": "d", "LABELDEP_RUNS": "r", "LABELDEP_FEATURES": "f"}
        assert run(some, "--runs-dir", "mine", **env).exit_code == 0
        assert got == [Workspace(Path("d"), Path("mine"), Path("f"))]

    def test_a_config_file_stands_between_flag_and_default(self, tmp_path: Path) -> None:
        record = {"command": "some", "settings": {"alpha": 3.0, "critic_steps": 2, "conditional": False, "seed": 5}}
        (tmp_path / "config.json").write_text(json.dumps(record))
        got = []

        def some(*, training: AdversarialConfig, config: flags.Config = None) -> None:
            got.append(training)

        assert run(some, "--config", str(tmp_path / "config.json"), "--seed", "7").exit_code == 0
        assert got == [AdversarialConfig(alpha=3.0, critic_steps=2, conditional=False, seed=7)]


def test_a_class_still_tells_its_defaults() -> None:
    assert AdversarialConfig.alpha == 10
    assert Workspace.data_dir == Path("data")
    assert PretrainConfig.lr is None


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_every_setting_is_a_flag_of_some_command(config: type) -> None:
    """Of a flag of the command line with the field's words, not only its name."""
    known = {
        (option.name, option.rich_help_panel)
        for command in COMMANDS.values()
        for option in command.params
        if hasattr(option, "rich_help_panel")
    }
    assert {(name, one.panel) for name, one in settings_of(config).items()} - known == set()


OPTIONS = [
    pytest.param(option, id=f"{name} {option.opts[0]}")
    for name, command in COMMANDS.items()
    for option in command.params
    if option.opts[0].startswith("-")
]


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_has_a_help_that_can_be_read_alone(option: typer.core.TyperOption) -> None:
    assert len(option.help.split()) >= 3
    assert not option.help.startswith(("Their", "Of ", "Adam's", "For "))


def test_the_exit_codes_stand_in_one_place() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0,
        "ERROR": 1,
        "USAGE": 2,
        "SKIPPED": 3,
        "INTERRUPTED": 130,
    }
    for file in Path(flags.__file__).parent.glob("*.py"):
        text = file.read_text()
        assert [word for word in ("Exit(0", "Exit(1", "Exit(3", "exit(1", "exit(3") if word in text] == [], file

"""The house holds: rooms import downwards only, no two modules import each other, no file grows without a reason."""

import ast
from pathlib import Path

import pytest

import labeldep_cli

PACKAGE = Path(labeldep_cli.__file__).parent

FLOORS = (
    ("errors", "files", "progress", "schemas", "text"),
    ("config",),
    ("compute",),
    ("datasets",),
    ("ingest",),
    ("features",),
    ("models",),
    ("inputs",),
    ("evaluation",),
    ("runs",),
    ("training",),
    ("projects",),
    ("experiments",),
    ("reports",),
    ("review",),
    ("labelling",),
    ("reproduction",),
    ("pipelines",),
    ("cli",),
    ("api",),
)
"""From the ground up. A module may import from its own room and from the floors below it."""

FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}

LONGEST = 300
"""Lines of a file."""

LONGER = {
    "datasets/scenes/backdrops.py": "one brush a place",
}
"""Files that are longer, and why they stay whole."""


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports_of(source: str) -> set[str]:
    """The modules of this package that a source imports, wherever in it, without the package's name."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "labeldep_cli":
            module = (node.module or "").removeprefix("labeldep_cli").lstrip(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".lstrip(".")
                found.add(inner if inner in MODULES else module)
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("labeldep_cli.") for a in node.names if a.name.startswith("labeldep_cli.")}
    return found


def imported_packages(source: str) -> set[str]:
    """The packages that a source imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(source)))
    plain = {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {(node.module or "").split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}


def arrows_up(module: str, imported: set[str]) -> list[str]:
    """The imports of a module that go to a higher floor, in words."""
    room = module.split(".")[0]
    return [
        f"{module} ({room}) imports {other} from {other.split('.')[0]}, which lies above it"
        for other in sorted(imported)
        if other and FLOOR_OF[other.split(".")[0]] > FLOOR_OF[room]
    ]


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first of them once more at the end; empty where none do."""
    done: set[str] = set()

    def search(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for other in sorted(graph.get(module, ())):
            if circle := search(other, [*path, module]):
                return circle
        done.add(module)
        return []

    return next(filter(None, (search(module, []) for module in sorted(graph))), [])


GRAPH = {name: imports_of(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def test_every_room_has_a_floor():
    assert {name.split(".")[0] for name in MODULES} - {"", "__main__"} == set(FLOOR_OF)


def test_no_arrow_goes_up():
    outside = ("", "__main__")  # the package's own front door and `python -m` may import what they offer
    wrong = [arrow for name, imported in GRAPH.items() if name not in outside for arrow in arrows_up(name, imported)]
    assert not wrong, "\n".join(wrong)


def test_no_two_modules_import_each_other():
    graph = {name: imported - {"", name} for name, imported in GRAPH.items() if name}
    assert circle_in(graph) == []


def test_hdf5_is_known_to_the_store_and_to_the_reader_of_a_users_own_features():
    knowing = {name for name, path in MODULES.items() if "h5py" in imported_packages(path.read_text(encoding="utf-8"))}
    of_a_user = {"datasets.hdf5_features", "datasets.hdf5_header"}
    assert knowing == of_a_user | {f"features.store.{name}" for name in ("layout", "segment", "write")}


def test_no_file_grows_without_a_reason():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES.values()}
    long = {path.relative_to(PACKAGE).as_posix() for path, count in lines.items() if count > LONGEST}
    assert long == set(LONGER)


@pytest.mark.parametrize(
    ("source", "arrow"),
    [
        ("from labeldep_cli.training import fit", "imports training.fit from training"),
        ("def f():\n    from labeldep_cli.cli.show import print_note", "imports cli.show from cli"),
        ("import labeldep_cli.projects.project", "imports projects.project from projects"),
    ],
)
def test_an_arrow_up_is_seen_and_named(source, arrow):
    (found,) = arrows_up("datasets.split", imports_of(source))
    assert arrow in found


def test_a_circle_is_seen():
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c", "a"]

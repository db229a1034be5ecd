"""The rules of the house: which room may import which, and how public functions are written."""

import ast
from pathlib import Path

import pytest

import robust_jax

PACKAGE = Path(__file__).parent.parent / "robust_jax"
METHOD_ROOMS = {
    "corruptions", "augmentations", "attacks", "objectives", "models", "posteriors", "detectors", "certificates",
    "metrics",
}  # fmt: skip
ALLOWED = {
    "types": set(),
    "core": {"types"},
    "images": {"types", "core"},
    **{room: {"types", "core", "images"} for room in METHOD_ROOMS},
    # Distributions over the weights of networks.
    "posteriors": {"types", "core", "models"},
    "config": {"types", "core"},
    "data": {"types", "core", "images"},
    "train": {"types", "core", "config", "data", *METHOD_ROOMS},
    "suites": {"types", "core", "config", "images", "data", *METHOD_ROOMS},
    "report": {"types", "core", "images", "config", "corruptions", "metrics"},
    "commands": {"types", "core", "config", "data", "train", "suites", "report", *METHOD_ROOMS},
    "__main__": {"types", "core", "config", "commands", "train"},
    "__init__": set(),
}
# A library in one room only, so that a move away from it touches one place.
OWNERS = {
    "flax": {"models"},
    "orbax": {"train"},
    "tensorflow_datasets": {"data"},
    "grain": {"data"},
    "tensorboardX": {"train"},
    "matplotlib": {"report"},
    "blackjax": {"posteriors"},
    "tyro": {"__main__", "commands"},
    "tensorflow": set(),
    "torch": set(),
}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    room = room_of(path)
    assert room in ALLOWED, f"a new room, {room}: say what it may import"
    rooms = {name.split(".")[1] for name in imported_modules(path) if name.startswith("robust_jax.")}
    rooms &= set(ALLOWED)
    assert rooms <= ALLOWED[room] | {room}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_libraries_stay_in_their_room(path):
    for library in {name.split(".")[0] for name in imported_modules(path)} & set(OWNERS):
        assert room_of(path) in OWNERS[library], f"{path} imports {library}"


def test_every_room_is_an_attribute_of_the_package():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders <= set(robust_jax.__all__)


def public_functions():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                yield pytest.param(path, node, id=f"{path.relative_to(PACKAGE)}:{node.lineno}:{node.name}")


@pytest.mark.parametrize(("path", "node"), list(public_functions()))
def test_random_functions_take_the_key_first(path, node):
    names = [argument.arg for argument in node.args.args if argument.arg not in ("self", "cls")]
    assert "rng" not in names
    for name in ("key", "keys"):
        if name in names:
            assert names.index(name) == 0 or names[0] in ("model", "suites", "config"), (path, node.name, names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_public_name_has_a_docstring(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{path} has no docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node) or len(node.body) <= 4, f"{path}:{node.lineno} {node.name} has no docstring"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_unsafe_is_loaded(path):
    names = imported_modules(path)
    assert not {name.split(".")[0] for name in names} & {"pickle", "dill", "cloudpickle", "shelve", "marshal"}
    assert "allow_pickle=True" not in path.read_text()

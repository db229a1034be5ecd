"""The rules of the house: which room may import which, and how public functions are written.

One test item per rule; a failure lists every file that breaks it.
"""

import ast
import re
from pathlib import Path

import robust_jax

PACKAGE = Path(__file__).parent.parent / "robust_jax"
PLUMBING = {"types", "core", "declarations"}
METHOD_ROOMS = {
    "corruptions", "augmentations", "predictors", "attacks", "objectives", "models", "weights", "posteriors",
    "detectors", "certificates", "tasks", "metrics",
}  # fmt: skip
BELOW_METHODS = PLUMBING | {"mathematics", "images"}
ALLOWED = {
    "types": set(),
    "core": {"types"},
    "declarations": set(),
    "mathematics": PLUMBING,
    "images": PLUMBING | {"mathematics"},
    **dict.fromkeys(METHOD_ROOMS, BELOW_METHODS),
    "attacks": BELOW_METHODS | {"predictors"},
    "objectives": BELOW_METHODS | {"predictors", "attacks", "tasks"},
    "tasks": BELOW_METHODS | {"metrics"},
    "models": BELOW_METHODS | {"predictors"},
    "weights": BELOW_METHODS | {"models"},
    # Distributions over the weights of networks.
    "posteriors": BELOW_METHODS | {"predictors", "models"},
    "detectors": BELOW_METHODS | {"predictors", "metrics"},
    "certificates": BELOW_METHODS | {"predictors"},
    "config": PLUMBING,
    "data": PLUMBING | {"images"},
    "train": BELOW_METHODS | METHOD_ROOMS | {"config", "data"},
    "suites": BELOW_METHODS | METHOD_ROOMS | {"config", "data"},
    "report": PLUMBING | {"images", "config", "corruptions", "metrics"},
    "commands": PLUMBING | METHOD_ROOMS | {"config", "data", "train", "suites", "report"},
    "__main__": PLUMBING | {"config", "commands", "train"},
    "__init__": set(),
}
# A library in one room only, so that a move away from it touches one place.
OWNERS = {
    "flax": {"models", "weights"},
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
TREES = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


def test_imports_point_down():
    rooms = {room_of(path) for path in TREES}
    assert rooms <= set(ALLOWED), f"new rooms {rooms - set(ALLOWED)}: say what they may import"
    upward = {}
    for path in TREES:
        imported = {name.split(".")[1] for name in imported_modules(path) if name.startswith("robust_jax.")}
        if bad := (imported & set(ALLOWED)) - ALLOWED[room_of(path)] - {room_of(path)}:
            upward[str(path.relative_to(PACKAGE))] = bad
    assert not upward


def test_libraries_stay_in_their_room():
    strays = {
        (str(path.relative_to(PACKAGE)), library)
        for path in TREES
        for library in {name.split(".")[0] for name in imported_modules(path)} & set(OWNERS)
        if room_of(path) not in OWNERS[library]
    }
    assert not strays


def test_every_room_is_an_attribute_of_the_package():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders <= set(robust_jax.__all__)


def test_random_functions_take_the_key_first():
    wrong = set()
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            names = [argument.arg for argument in node.args.args if argument.arg not in ("self", "cls")]
            late = [
                name
                for name in ("key", "keys")
                if name in names and names[0] not in (name, "model", "suites", "config")
            ]
            if late or "rng" in names:
                wrong.add(f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}{tuple(names)}")
    assert not wrong


def test_every_public_name_has_a_docstring():
    bare = {str(path.relative_to(PACKAGE)) for path, tree in TREES.items() if not ast.get_docstring(tree)}
    for path, tree in TREES.items():
        for node in tree.body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if public and not ast.get_docstring(node) and len(node.body) > 4:
                bare.add(f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}")
    assert not bare


def test_nothing_unsafe_is_loaded():
    unsafe = {"pickle", "dill", "cloudpickle", "shelve", "marshal"}
    loaded = {
        (str(path.relative_to(PACKAGE)), library)
        for path in TREES
        for library in {name.split(".")[0] for name in imported_modules(path)} & unsafe
    }
    # The one Unpickler builds nothing but inert classes; tests/weights/test_torch_file.py attacks it.
    assert loaded == {("weights/inert_pickle.py", "pickle")}
    source = (PACKAGE / "weights" / "inert_pickle.py").read_text()
    assert set(re.findall(r"pickle\.(\w+)", source)) == {"Unpickler", "UnpicklingError"}
    assert not [path for path in TREES if "allow_pickle=True" in path.read_text()]

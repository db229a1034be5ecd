"""Other people's weights: from files of arrays, by the names that PyTorch code gives them."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import PyTreeDef
from jaxtyping import PyTree
from safetensors import SafetensorError
from safetensors.numpy import load_file

from robust_jax.core.checks import nearest
from robust_jax.models.wide_resnet import WideResNet
from robust_jax.types import Module
from robust_jax.weights.torch_file import read_tensors
from robust_jax.weights.torch_names import Counterpart, counterpart, from_torch

# The buffers in which PyTorch models keep their input's normalisation, and our field of the same content.
NORMALISATION = {"mu": "mean", "mean": "mean", "new_mean": "mean", "sigma": "std", "std": "std", "new_std": "std"}
SHOWN = 5
"""How many names of a kind an error or a printed report lists."""


@dataclasses.dataclass(frozen=True)
class WeightsReport:
    """How the arrays of a file and the variables of a network fit; ``print`` it.

    Names are those of the file. Shapes are in PyTorch's layout.
    """

    path: str
    """The file."""
    network: str
    """Name of the network's class."""
    matched: tuple[tuple[str, str], ...]
    """(our variable, array) of all that fit."""
    missing: tuple[str, ...]
    """Arrays that the network needs and the file lacks."""
    unexpected: tuple[str, ...]
    """Arrays that the network has no use for."""
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    """(array, expected shape, its shape)."""
    normalisation: tuple[tuple[str, tuple[float, ...], tuple[float, ...]], ...]
    """(array, expected values, its values) of normalisation that is not the network's."""
    ignored: tuple[str, ...]
    """Arrays that no prediction reads: counters, copies of others, the network's own normalisation."""

    @property
    def fits(self) -> bool:
        """Whether :func:`load_weights` takes the file."""
        return not (self.missing or self.unexpected or self.mismatched or self.normalisation)

    def __str__(self) -> str:
        lines = [f"{self.path} has arrays that fit {len(self.matched)} variables of {self.network}."]
        if not self.matched:
            lines.append("Its names are not those of torchvision, timm or RobustBench for this network.")
        if self.missing:
            hint = nearest(self.missing[0], self.unexpected) if self.unexpected else ""
            lines.append(f"Missing: {_listed(self.missing)}.{hint if 'Did you mean' in hint else ''}")
        for name, expected, got in self.mismatched[:SHOWN]:
            lines.append(f"Expected {name!r} of shape {expected}, got {got}.")
        for name, expected, got in self.normalisation:
            lines.append(f"Expected {name!r} to equal the network's {expected}, got {got}.")
        if self.unexpected:
            lines.append(f"Not expected: {_listed(self.unexpected)}.")
        if self.ignored:
            lines.append(f"Not needed: {_listed(self.ignored)}.")
        return "\n".join(lines)


def load_weights(
    path: str | Path, model: Module, image_shape: tuple[int, int, int], *, entry: str | None = None
) -> tuple[PyTree, dict[str, PyTree]]:
    """Parameters and state of a network from a ``.safetensors`` file or a PyTorch checkpoint.

    A checkpoint (``.pt``, ``.pth``, ``.th``, ``.bin``, ``.pth.tar``; of any version of PyTorch since 0.1.10) is read
    without PyTorch, and nothing in it is executed: one that asks for more than tensors and containers is refused.
    Names may be those of torchvision, timm or RobustBench for a ``ResNet``, ``WideResNet`` or ``ViT``, behind any
    prefix (``module.``, ``model.``, ``1.``).

    All arrays must fit, and normalisation kept in the file (``mu``, ``sigma``, ``normalize.mean``, …) must be the
    network's. What a file does not tell is up to the caller: normalisation where the file keeps none, and

    - of a ``WideResNet``, the activation. The names of Gowal et al. (``init_conv``, ``layer.0.block.0``, ``logits``)
      are those of ``padding="end"``;
    - of a ``ResNet``, what shortcuts without weights (option A) do, ours pad the channels on both sides; and with
      ``variant="preact"`` what projections read, ours the activated input, as RobustBench's ``PreActBlockV2``;
    - of group normalisation, the number of groups, and of a ``ViT`` the epsilon of its norms, ours 1e-6, and the
      activation, ours the exact GELU, as torchvision's and timm's.

    Args:
        path: the file.
        model: a network that the weights fit.
        image_shape: (h, w, c) of the images it takes.
        entry: which entry of a checkpoint holds the weights, where there are several; see
            :func:`~robust_jax.weights.torch_file.read_tensors`.

    Returns:
        Parameters and model state, float32, as :func:`~robust_jax.models.init` gives them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged or refused; or if it does not fit, with what :func:`inspect_weights` reports.
    """
    arrays = _read(path, entry)
    counterparts, treedef = _counterparts(model, image_shape)
    report, names = _compare(path, model, counterparts, arrays)
    if not report.fits:
        raise ValueError(" ".join(str(report).splitlines()))
    leaves = [jnp.asarray(from_torch(arrays[names[c.variable]], c), jnp.float32) for c in counterparts]
    variables = dict(jax.tree.unflatten(treedef, leaves))
    return variables.pop("params"), variables


def inspect_weights(
    path: str | Path, model: Module, image_shape: tuple[int, int, int], *, entry: str | None = None
) -> WeightsReport:
    """What :func:`load_weights` would find in a file, which need not fit.

    Args and errors are those of :func:`load_weights`, but for files that do not fit.
    """
    return _compare(path, model, _counterparts(model, image_shape)[0], _read(path, entry))[0]


def _read(path: str | Path, entry: str | None) -> dict[str, np.ndarray]:
    if Path(path).suffix != ".safetensors":
        return read_tensors(path, entry=entry)
    if entry is not None:
        raise ValueError(f"Expected entry=None for {path}, since safetensors files have none, got entry={entry!r}.")
    if not Path(path).is_file():
        raise FileNotFoundError(f"No weights {path}.")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error


def _counterparts(model: Module, image_shape: tuple[int, int, int]) -> tuple[list[Counterpart], PyTreeDef]:
    variables = jax.eval_shape(
        partial(model.init, train=False), jax.random.key(0), jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    )
    leaves, treedef = jax.tree.flatten_with_path(variables)
    network = _inner(model)
    return [counterpart(network, tuple(k.key for k in path[1:]), leaf.shape) for path, leaf in leaves], treedef


def _inner(model: Module) -> Module:
    """The network whose variables a model such as ``Equalised`` has for its own."""
    return getattr(model, "network", model)


def _compare(
    path: str | Path, model: Module, counterparts: list[Counterpart], arrays: dict[str, np.ndarray]
) -> tuple[WeightsReport, dict[tuple[str, ...], str]]:
    """The report, and the array's name by variable."""
    prefix, *others = _prefixes(counterparts, arrays) or [""]
    scopes = {name[:end] for name in arrays for end in _ends_of_scopes(name)}
    matched, missing, mismatched, names = [], [], [], {}
    for item in counterparts:
        name = next((prefix + name for name in item.names if prefix + name in arrays), None)
        if name is None:
            missing.append(max((prefix + name for name in item.names), key=lambda name: _num_known(name, scopes)))
            continue
        names[item.variable] = name
        if arrays[name].shape == item.torch_shape:
            matched.append((".".join(item.variable), name))
        else:
            mismatched.append((name, item.torch_shape, arrays[name].shape))
    ignored, unexpected, normalisation = [], [], []
    used = set(names.values())
    copies = _copied(used, prefix, others, arrays)
    for name in sorted(set(arrays) - used):
        expected = _normalisation(name, model, arrays[name])
        got = tuple(arrays[name].ravel().tolist()) if expected else ()
        if expected and not np.allclose(got, expected, rtol=1e-5):
            normalisation.append((name, expected, got))
        elif expected or name in copies or _is_idle(name.removeprefix(prefix), model):
            ignored.append(name)
        else:
            unexpected.append(name)
    report = WeightsReport(
        path=str(path),
        network=type(model).__name__,
        matched=tuple(matched),
        missing=tuple(dict.fromkeys(missing)),
        unexpected=tuple(unexpected),
        mismatched=tuple(dict.fromkeys(mismatched)),
        normalisation=tuple(normalisation),
        ignored=tuple(ignored),
    )
    return report, names


def _prefixes(counterparts: list[Counterpart], arrays: dict[str, np.ndarray]) -> list[str]:
    """What stands before the network's names, as ``"module."``: before the most of them first, then the shortest.

    Names such as ``bn1.weight`` are found in every block too, so a prefix must be one of many arrays.
    """
    known = {name for item in counterparts for name in item.names}
    counts: dict[str, int] = {}
    for name in arrays:
        for start in (0, *_ends_of_scopes(name)):
            counts[name[:start]] = counts.get(name[:start], 0) + (name[start:] in known)
    common = [prefix for prefix in counts if 3 * sum(name.startswith(prefix) for name in arrays) >= len(arrays)]
    return sorted(common, key=lambda prefix: (-counts[prefix], len(prefix)))


def _ends_of_scopes(name: str) -> list[int]:
    return [i + 1 for i, letter in enumerate(name) if letter == "."]


def _num_known(name: str, scopes: set[str]) -> int:
    return sum(name[:end] in scopes for end in _ends_of_scopes(name))


def _normalisation(name: str, model: Module, array: np.ndarray) -> tuple[float, ...]:
    """What the network has of the normalisation that ``name`` is; () if it is none."""
    field = NORMALISATION.get(name.split(".")[-1], "")
    values = getattr(_inner(model), field, ())
    return tuple(np.broadcast_to(values, array.size).tolist()) if values and len(values) in (1, array.size) else ()


def _is_idle(name: str, model: Module) -> bool:
    """Whether no prediction reads the array; the first stage of TRADES' WideResNet stands in its files twice."""
    counter = name.endswith("num_batches_tracked")
    return counter or (isinstance(_inner(model), WideResNet) and name.startswith("sub_block1."))


def _copied(used: set[str], prefix: str, others: list[str], arrays: dict[str, np.ndarray]) -> set[str]:
    """Names of all arrays of the network where another prefix has every one of them again, the same."""
    own = [name.removeprefix(prefix) for name in used]
    whole = [
        other
        for other in others
        if all(other + n in arrays and np.array_equal(arrays[other + n], arrays[prefix + n]) for n in own)
    ]
    return {other + name for other in whole for name in own}


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more

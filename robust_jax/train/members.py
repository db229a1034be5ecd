"""Several networks that differ in their seeds alone: how they take a step together, and what memory that needs."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, PyTree

from robust_jax import models
from robust_jax.core.loops import scan_steps
from robust_jax.core.mesh import DATA_AXIS, batched, replicate, replicated
from robust_jax.core.platform import compiled_for, on_cpu, platform_of
from robust_jax.objectives import mean_loss
from robust_jax.train.experiment import Experiment
from robust_jax.train.state import TrainState
from robust_jax.train.step import make_single_step, make_train_step
from robust_jax.types import Batch, Context, Loss, Params, PRNGKey

logger = logging.getLogger(__name__)

SMALL = 1_500_000
"""Parameters up to which an accelerator is taken to be idle for most of a network's step, so that members share it.

Five ResNets of three stages on one H200, products in TF32, a step over that of five in turn, by ``vmap`` and by
``map``: 0.08 million parameters .43 and .64, 0.7 million .50 and .64, 2.8 million .80 and .73, 11 million 1.04 and
.81."""
LIMIT_SHARE = 0.9
"""Of a device's memory, what an estimate may take: it does not count the workspace of single operations."""


class Members(Protocol):
    """Networks that take steps together; ``states`` is whatever :meth:`gather` made."""

    def gather(self, states: Sequence[TrainState]) -> PyTree:
        """The states of all, as steps take them."""
        ...

    def step(self, states: PyTree, resident: PyTree, items: Sequence[tuple[PyTree, ...]]) -> tuple[PyTree, PyTree]:
        """Steps of all; ``items`` holds for each step one of each member. ``states`` are donated."""
        ...

    def member(self, states: PyTree, i: int) -> TrainState:
        """One of them, as if it were trained alone."""
        ...

    def bad_steps(self, states: PyTree) -> list[int]:
        """``bad_step`` of each."""
        ...

    def scalars(self, values: PyTree, i: int) -> dict[str, Float[np.ndarray, "steps"]]:
        """Of one of them, out of what steps gave, on the host."""
        ...


def make_members(
    experiments: Sequence[Experiment],
    member_map: str,
    optimiser: optax.GradientTransformation,
    fetch: Callable[[PyTree, PyTree], Batch],
    mesh: Mesh,
    *,
    steps_per_epoch: int,
    num_classes: int,
) -> Members:
    """Members that are mapped as ``member_map`` says; see :class:`~robust_jax.train.Execution`.

    Args:
        experiments: one for each member, alike but for their seeds.
        member_map: ``map``, ``vmap`` or ``devices``.
        optimiser: and all that follows as of :func:`~robust_jax.train.make_train_step`.
    """
    sizes = {"steps_per_epoch": steps_per_epoch, "num_classes": num_classes}
    keys = [jax.random.key(experiment.seed) for experiment in experiments]
    if len(keys) == 1 or (member_map == "map" and on_cpu(mesh)):
        step = make_train_step(experiments[0], optimiser, fetch, mesh, **sizes)
        return _Dispatched(step, [replicate(key, mesh) for key in keys], waits=mesh.size > 1)
    step = make_single_step(experiments[0], optimiser, fetch, **sizes)
    return _Stacked(step, member_map, jnp.stack(keys), mesh)


class _Dispatched:
    """One compiled step, called for one member after the other.

    What the states hold is that of members trained alone, to the bit. On a CPU it is fastest: convolutions with a batch
    of kernels are many times slower there, and a program of all members' steps takes as many times longer to compile.
    """

    def __init__(self, train_steps: Callable, keys: Sequence[Array], *, waits: bool):
        self._train_steps = train_steps
        self._keys = keys
        # Of programs in which devices wait for each other, a CPU has threads for one at a time.
        self._waits = waits

    def gather(self, states: Sequence[TrainState]) -> tuple[TrainState, ...]:
        return tuple(states)

    def step(self, states, resident, items):
        done = []
        for key, state, own in zip(self._keys, states, zip(*items, strict=True), strict=True):
            done.append(self._train_steps(key, state, resident, own))
            if self._waits and len(self._keys) > 1:
                jax.block_until_ready(done[-1])
        states, values = zip(*done, strict=True)
        return states, values

    def member(self, states, i):
        return states[i]

    def bad_steps(self, states):
        return [int(state.bad_step) for state in states]

    def scalars(self, values, i):
        return values[i]


class _Stacked:
    """One program of all members, whose states have an axis of them first."""

    def __init__(self, train_step: Callable, member_map: str, keys: Array, mesh: Mesh):
        whole = replicated(mesh)
        layout = batched(mesh) if member_map == "devices" else whole
        self._keys = replicate(keys, mesh)
        self._train_steps = jax.jit(
            partial(_train_steps, train_step, member_map, mesh), donate_argnums=1, out_shardings=(layout, whole)
        )
        self._gather = jax.jit(
            lambda states: jax.tree.map(lambda *leaves: jnp.stack(leaves), *states), out_shardings=layout
        )
        self._member = jax.jit(lambda states, i: jax.tree.map(lambda leaf: leaf[i], states), out_shardings=whole)
        self._replicated = jax.jit(lambda array: array, out_shardings=whole)

    def gather(self, states: Sequence[TrainState]) -> TrainState:
        return self._gather(tuple(states))

    def step(self, states, resident, items):
        return self._train_steps(self._keys, states, resident, tuple(items))

    def member(self, states, i):
        return self._member(states, jnp.int32(i))

    def bad_steps(self, states):
        return np.asarray(self._replicated(states.bad_step)).tolist()

    def scalars(self, values, i):
        return {name: value[:, i] for name, value in values.items()}


def _train_steps(
    train_step: Callable,
    member_map: str,
    mesh: Mesh,
    keys: Array,
    states: TrainState,
    resident: PyTree,
    items: tuple[tuple[PyTree, ...], ...],
) -> tuple[TrainState, PyTree]:
    each = {"vmap": _together, "map": _in_loop, "devices": _on_device}[member_map]

    def run(keys, states, resident, items):
        return scan_steps(lambda states, item: each(train_step, keys, resident, states, item), states, items)

    items = tuple(jax.tree.map(lambda *leaves: jnp.stack(leaves), *of_members) for of_members in items)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        if member_map == "devices":
            split = PartitionSpec(DATA_AXIS)
            run = jax.shard_map(
                run,
                in_specs=(split, split, PartitionSpec(), split),
                out_specs=(split, PartitionSpec(None, DATA_AXIS)),
                check_vma=False,
            )
        return run(keys, states, resident, items)


def _together(train_step, keys, resident, states, item):
    return jax.vmap(train_step, (0, None, 0, 0))(keys, resident, states, item)


def _in_loop(train_step, keys, resident, states, item):
    return jax.lax.map(lambda own: train_step(own[0], resident, *own[1:]), (keys, states, item))


def _on_device(train_step, keys, resident, states, item):
    """The members of one device."""
    if not on_cpu(keys):
        return _together(train_step, keys, resident, states, item)
    done = [
        train_step(keys[i], resident, *jax.tree.map(lambda leaf, i=i: leaf[i], (states, item)))
        for i in range(len(keys))
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *done)


@dataclasses.dataclass(frozen=True)
class Needs:
    """Bytes: of one network's state, of its gradient, and of what its backward pass reads of a batch."""

    state: int
    gradient: int
    activations: int

    def of(self, member_map: str, num_members: int, num_devices: int) -> int:
        """An estimate of the bytes on each device."""
        activations = self.activations // num_devices
        if member_map == "turn":
            return self.state + self.gradient + activations
        if member_map == "map":
            return num_members * self.state + self.gradient + activations
        if member_map == "vmap":
            return num_members * (self.state + self.gradient + activations)
        here = -(-num_members // num_devices)
        at_once = 1 if on_cpu() else here
        return here * self.state + at_once * (self.gradient + self.activations)


def needs(
    experiment: Experiment,
    state: TrainState,
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    label_shape: tuple[int, ...] = (),
) -> Needs:
    """What one network needs, counted from its arrays without computing or compiling anything.

    Activations are those that differentiation keeps, before XLA fuses any, so that less may be needed. The data set,
    where it is kept on the device, is not counted.
    """
    batch = example_batch(experiment, image_shape, num_classes, label_shape=label_shape)
    model = experiment.network()
    context = Context(jnp.int32(0), jnp.int32(0), jnp.float32(0))

    def kept(key: PRNGKey, state: TrainState, batch: Batch) -> PyTree:
        network_forward = models.forward_fn(model, state.model_state)

        def scalar(params: Params) -> tuple[Array, Loss]:
            forward = lambda params, *args, **kwargs: network_forward(params.network, *args, **kwargs)  # noqa: E731
            loss = experiment.objective(key, forward, params, batch, state.objective_state, context)
            return mean_loss(loss, batch.mask), loss

        return jax.vjp(scalar, state.params, has_aux=True)[1]

    activations = jax.eval_shape(kept, jax.random.key(0), state, batch)
    return Needs(_num_bytes(state), _num_bytes(state.params), _num_bytes(activations))


def example_batch(
    experiment: Experiment, image_shape: tuple[int, int, int], num_classes: int, *, label_shape: tuple[int, ...] = ()
) -> Batch:
    """Return the shapes of a training batch as the objective sees it, extra streams included.

    Args:
        experiment: what is trained.
        image_shape: (h, w, c).
        num_classes: number of classes of the labels.
        label_shape: shape of one label, see :class:`~robust_jax.data.Source`; () for classes.
    """

    def shapes(size: int, *, label: tuple[int, ...]) -> Batch:
        def zeros() -> Batch:
            return Batch(
                image=jnp.zeros((size, *image_shape), jnp.float32),
                # Classes and label maps are whole numbers; targets and probabilities are not.
                label=jnp.zeros((size, *label), jnp.int32 if len(label) in (0, 2) else jnp.float32),
                mask=jnp.zeros(size, bool),
                id=jnp.zeros(size, jnp.int32),
            )

        return jax.eval_shape(zeros)

    mixed = (num_classes,) if experiment.mixers else ()
    batch = shapes(experiment.batch_size * experiment.gradient.augmentations, label=label_shape or mixed)
    extras = {name: shapes(stream.batch_size, label=()) for name, stream in experiment.extra.items()}
    return batch._replace(extras=extras)


def choose_member_map(
    experiment: Experiment,
    num_members: int,
    state: TrainState,
    *,
    image_shape: tuple[int, int, int],
    num_classes: int,
    mesh: Mesh,
    label_shape: tuple[int, ...] = (),
) -> str:
    """``turn``, ``map``, ``vmap`` or ``devices``: what the experiment's execution says, or its rule of ``auto``.

    Args:
        experiment: of the members.
        num_members: how many.
        state: of one.
        image_shape: (h, w, c).
        num_classes: of the labels.
        mesh: the devices.
        label_shape: shape of one label; () for classes.

    Raises:
        ValueError: if members are to be divided over devices and do not divide, or if an estimate of the memory that
            they need is over the limit; it is in the message.
    """
    asked = experiment.execution.member_map
    if num_members == 1 or asked == "turn":
        return "turn"
    if asked == "devices" and num_members % mesh.size:
        raise ValueError(
            f"Expected members to divide by the {mesh.size} devices with member_map='devices', "
            f"got members={num_members}."
        )
    need = needs(experiment, state, image_shape, num_classes, label_shape=label_shape)
    limit = _limit(experiment, mesh)
    with compiled_for(platform_of(mesh)):
        estimates = {name: need.of(name, num_members, mesh.size) for name in ("turn", "map", "vmap", "devices")}
    text = ", ".join(f"{name} {_in_gigabytes(size)}" for name, size in estimates.items())
    logger.info("Estimated memory of %d members on each device: %s.", num_members, text)
    if asked != "auto":
        if limit is not None and estimates[asked] > limit:
            raise ValueError(
                f"Expected members that fit in {_in_gigabytes(limit)} on each device, got member_map={asked!r} with "
                f"members={num_members}; estimates: {text}."
            )
        return asked
    preferred = _preferred(num_members, models.num_parameters(state.params), mesh)
    return next((name for name in preferred if limit is None or estimates[name] <= limit), "turn")


def _preferred(num_members: int, num_parameters: int, mesh: Mesh) -> list[str]:
    """Fastest first."""
    if on_cpu(mesh):
        return ["map"]
    divided = ["devices"] if mesh.size > 1 and num_members % mesh.size == 0 else []
    return [*divided, *(["vmap"] if num_parameters <= SMALL else []), "map"]


def _limit(experiment: Experiment, mesh: Mesh) -> float | None:
    if experiment.execution.member_memory is not None:
        return experiment.execution.member_memory * 1e9
    stats = mesh.local_devices[0].memory_stats() or {}
    return LIMIT_SHARE * stats["bytes_limit"] if "bytes_limit" in stats else None


def _num_bytes(tree: PyTree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _in_gigabytes(size: float) -> str:
    return f"{size / 1e9:.3g} GB"

"""Devices: one data-parallel mesh, and how values are laid out over it."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from robust_jax.core.platform import on_cpu

DATA_AXIS = "data"


def data_mesh(devices=None) -> Mesh:
    """A one-dimensional mesh over all devices of all processes.

    Axes are Auto: under Explicit ones per-example convolution gradients and ``x[permutation]`` do not compile.
    """
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def mesh_of(array: Array) -> Mesh:
    """The data mesh whose devices an array is split over; of one device, for what lies on it alone."""
    sharding = array.sharding
    mesh = sharding.mesh if isinstance(sharding, NamedSharding) else None
    if isinstance(mesh, Mesh) and mesh.axis_names == (DATA_AXIS,):
        return mesh
    return data_mesh([min(sharding.device_set, key=lambda device: device.id)])


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
    """Leading axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def split_over_devices(function: Callable[..., PyTree], num: int) -> Callable[..., PyTree]:
    """The function of arrays with a leading axis of ``num``, such that each device computes its part by itself.

    As it is where no mesh is in use (see ``jax.sharding.use_abstract_mesh``), or the axis does not divide.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.axis_names != (DATA_AXIS,) or mesh.axis_types != (AxisType.Auto,) or num % mesh.size:
        return function
    spec = PartitionSpec(DATA_AXIS)
    return jax.shard_map(function, in_specs=spec, out_specs=spec, check_vma=False)


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """Puts a copy of ``tree``, the same on every process, on every device."""
    return _place(tree, replicated(mesh))


def replicate_beside(tree: PyTree, array: Array) -> PyTree:
    """Puts copies of a tree on all devices that an array is split over; else every call with both would copy it."""
    return _place_beside(tree, array, split=False)


def split_beside(tree: PyTree, array: Array) -> PyTree:
    """Splits the leading axis of a tree over devices as that of an array is."""
    return _place_beside(tree, array, split=True)


def _place_beside(tree: PyTree, array: Array, *, split: bool) -> PyTree:
    """As it is within ``jit``, and where other hosts hold parts."""
    leaves = [leaf for leaf in jax.tree.leaves((tree, array)) if isinstance(leaf, jax.Array)]
    if any(isinstance(leaf, Tracer) or not leaf.is_fully_addressable for leaf in leaves):
        return tree
    if not isinstance(array.sharding, NamedSharding) or array.sharding.num_devices == 1:
        return tree
    spec = PartitionSpec(*array.sharding.spec[:1]) if split else PartitionSpec()
    sharding = NamedSharding(array.sharding.mesh, spec)
    return jax.tree.map(lambda leaf: jax.device_put(leaf, sharding) if isinstance(leaf, jax.Array) else leaf, tree)


def on_one_cpu(tree: PyTree) -> PyTree:
    """On a CPU, values as one device holds them; elsewhere as they are.

    Virtual devices share the threads of one CPU. Programs that sum over devices several times may wait for each other
    for ever there.
    """
    if not on_cpu(tree) or jax.process_count() > 1:
        return tree
    return jax.device_put(tree, jax.local_devices()[0])


def uncommitted(tree: PyTree) -> PyTree:
    """By way of the host, values that go with others on any devices; as they are within ``jit``."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree)):
        return tree
    return jax.tree.map(jnp.asarray, jax.device_get(tree))


def shard_batch(tree: PyTree, mesh: Mesh) -> PyTree:
    """Splits the leading axis of global host arrays, the same on every process, over the devices.

    Raises:
        ValueError: if a leading axis does not divide by the number of devices.
    """
    for leaf in jax.tree.leaves(tree):
        if leaf.shape[0] % mesh.size:
            raise ValueError(f"batch of {leaf.shape[0]} examples cannot be split over {mesh.size} devices")
    return _place(tree, batched(mesh))


def shard_local_batch(tree: PyTree, mesh: Mesh) -> PyTree:
    """As :func:`shard_batch`, from this process's slice of the batch only (its rows, in process order)."""
    sharding = batched(mesh)
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), tree)


def _place(tree: PyTree, sharding: NamedSharding) -> PyTree:
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def place(leaf):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    return jax.tree.map(place, tree)


def to_host(tree):
    """Whole arrays on every process."""
    if jax.process_count() > 1:
        return multihost_utils.process_allgather(tree, tiled=True)
    return jax.device_get(tree)

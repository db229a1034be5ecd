"""The platform that a program is compiled for: ``cpu``, ``gpu`` or ``tpu``."""

from __future__ import annotations

import jax
from jax.core import Tracer
from jax.sharding import AbstractMesh, Mesh
from jaxtyping import PyTree

from robust_jax.core.checks import check_choice

PLATFORMS = ("cpu", "gpu", "tpu")
# Part of the keys of jax's caches, so that a function traced for one platform is traced again for another.
_STATED = jax.make_user_context(None)


def compiled_for(platform: str):
    """Context in which :func:`platform_of` is ``platform``, whatever devices this machine has.

    >>> with compiled_for("tpu"):
    ...     platform_of()
    'tpu'

    Raises:
        ValueError: if the name is not cpu, gpu or tpu.
    """
    check_choice("platform", platform, PLATFORMS)
    return _STATED(platform)


def platform_of(*operands: Mesh | AbstractMesh | PyTree) -> str:
    """Return the platform of the program being traced, or of the computation about to be dispatched.

    The first of these that is known decides: :func:`compiled_for`; a mesh among the operands; the mesh in use
    (``jax.set_mesh``, ``jax.sharding.use_abstract_mesh``); the devices of concrete arrays among the operands;
    ``jax.default_device``; the default backend. A program lowered for a TPU topology on a machine without one thus
    takes the branches of a TPU.

    Args:
        operands: meshes, and pytrees of arrays that the computation reads; tracers among them say nothing.
    """
    if _STATED.value is not None:
        return _STATED.value
    meshes = [operand for operand in operands if isinstance(operand, Mesh | AbstractMesh)]
    for mesh in (*meshes, jax.sharding.get_abstract_mesh()):
        device = (mesh.abstract_mesh if isinstance(mesh, Mesh) else mesh).abstract_device
        if device is not None:
            return device.platform
    for leaf in jax.tree.leaves([operand for operand in operands if not isinstance(operand, Mesh | AbstractMesh)]):
        if isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer):
            return next(iter(leaf.sharding.device_set)).platform
    default = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    if default is not None:
        return default if isinstance(default, str) else default.platform
    return jax.default_backend()


def on_cpu(*operands: Mesh | AbstractMesh | PyTree) -> bool:
    """Whether :func:`platform_of` the operands is a CPU."""
    return platform_of(*operands) == "cpu"

"""Loops of compiled steps. This file owns the choice between unrolling, looping and dispatching one by one."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Int, PyTree

from robust_jax.core.mesh import split_over_devices
from robust_jax.core.platform import on_cpu

MAX_UNROLLED = 20
"""Most steps of a traced loop that are unrolled on a CPU."""


def scan_steps(
    body: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]], carry: PyTree, items: tuple[PyTree, ...]
) -> tuple[PyTree, PyTree]:
    """Runs ``carry, out = body(carry, item)`` over a tuple of items and stacks the outs, as ``jax.lax.scan`` does.

    On a CPU the steps are unrolled, because gradients of convolutions inside XLA's loops run several times slower
    there; on an accelerator they are one loop, which compiles once.
    """
    if not on_cpu(carry, items):
        return jax.lax.scan(body, carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *items))
    outs = []
    for item in items:
        carry, out = body(carry, item)
        outs.append(out)
    return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outs)


def iterate(step: Callable[..., PyTree], static: Hashable, steps: range, carry: PyTree, *operands: PyTree) -> PyTree:
    """Runs ``carry = step(static, i, carry, *operands)`` for every i of a range.

    On an accelerator the steps are one loop. On a CPU, gradients of convolutions inside XLA's loops may run several
    times slower than outside (see :mod:`robust_jax.models.convolution`, whose do not; those of other people's networks
    do). So outside of ``jit`` one compiled step is dispatched after the other, and inside of it up to
    ``MAX_UNROLLED`` steps are unrolled; more are one loop, since unrolled chunks would be inside it too.

    Args:
        step: a function of a module, not a closure, so that it compiles once.
        static: settings that are part of the program.
        steps: the numbers i, one after the other.
        carry: what goes from step to step.
        operands: what all steps read.
    """
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((carry, operands)))
    if not on_cpu(carry, operands) or (traced and len(steps) > MAX_UNROLLED):
        return _loop(step, static, len(steps), jnp.int32(steps.start), carry, operands)
    for i in steps:
        carry = _dispatch(step, static, jnp.int32(i), carry, operands)
    return carry


@partial(jax.jit, static_argnums=(0, 1))
def _dispatch(
    step: Callable[..., PyTree], static: Hashable, i: Int[Array, ""], carry: PyTree, operands: tuple[PyTree, ...]
) -> PyTree:
    return step(static, i, carry, *operands)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _loop(
    step: Callable[..., PyTree],
    static: Hashable,
    num_steps: int,
    start: Int[Array, ""],
    carry: PyTree,
    operands: tuple[PyTree, ...],
) -> PyTree:
    return jax.lax.fori_loop(0, num_steps, lambda i, c: step(static, start + i, c, *operands), carry)


def row_by_row(function: Callable[..., Array], given: PyTree, rows: PyTree, **settings: Hashable) -> Array:
    """``function(given, row, **settings)`` of every row, in a loop on a CPU and together elsewhere.

    XLA's programs for a CPU fuse what is computed of a position with every number that is read there, once for each
    channel, and then use no vector instructions: at 224×224, rows take a half to a fifth of the time. Derivatives, of
    any order and mode, are those of all rows together.

    Args:
        function: a function of a module, not a closure, so that it compiles once.
        given: a tree of arrays that all rows read.
        rows: a tree of arrays with equal leading axes.
        settings: what else it takes, part of the program.
    """
    together = not on_cpu(given, rows)
    return (_map_together if together else _row_by_row)(function, tuple(settings.items()), given, rows)


Settings = tuple[tuple[str, Hashable], ...]


def _map_together(function: Callable[..., Array], settings: Settings, given: PyTree, rows: PyTree) -> Array:
    return jax.vmap(partial(function, given, **dict(settings)))(rows)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _row_by_row(function: Callable[..., Array], settings: Settings, given: PyTree, rows: PyTree) -> Array:
    return _map_rows(function, settings, given, rows)


@_row_by_row.defjvp
def _row_by_row_jvp(
    function: Callable[..., Array],
    settings: Settings,
    primals: tuple[PyTree, PyTree],
    tangents: tuple[PyTree, PyTree],
) -> tuple[Array, Array]:
    together = partial(_map_together, function, settings)
    return _row_by_row(function, settings, *primals), jax.jvp(together, primals, tangents)[1]


@partial(jax.jit, static_argnums=(0, 1))
def _map_rows(function: Callable[..., Array], settings: Settings, given: PyTree, rows: PyTree) -> Array:
    return jax.lax.map(partial(function, given, **dict(settings)), rows)


def one_by_one(function: Callable[..., Array], *, smooth: Callable[..., Array] | None = None) -> Callable[..., Array]:
    """On a CPU a loop over examples where ``jax.vmap`` would compute them together; elsewhere as it is.

    For functions that branch: under ``jax.vmap`` a ``jax.lax.switch`` computes all its branches. An accelerator is
    wide enough for that, a CPU does better to compute one branch of each example. Where a mesh is in use, every device
    loops over its own examples.

    Args:
        function: of arrays that are floating-point numbers or integers, to one array; it may be differentiated once,
            in reverse.
        smooth: one of equal values, whose derivative is taken, and which accelerators compute; by default the same.
    """
    smooth = function if smooth is None else smooth
    if not on_cpu():
        return smooth

    looped = _looped(function)

    def pullback(arguments: tuple[Array, ...], cotangent: Array) -> tuple[Array, ...]:
        return jax.vjp(smooth, *arguments)[1](cotangent)

    # A function with a batching rule of its own has no transpose, so the derivative is one more such function.
    differentiable = jax.custom_vjp(looped)
    differentiable.defvjp(
        lambda *arguments: (looped(*arguments), arguments), lambda saved, given: _looped(pullback)(saved, given)
    )
    return differentiable


def _looped(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    looped = jax.custom_batching.custom_vmap(function)

    @looped.def_vmap
    def rule(axis_size: int, batched: tuple[PyTree, ...], *arguments: PyTree) -> tuple[PyTree, PyTree]:
        rows, treedef = jax.tree.flatten(arguments)
        split = jax.tree.leaves(batched)
        mapped = tuple(row for row, each in zip(rows, split, strict=True) if each)

        def one(given: tuple[Array, ...]) -> PyTree:
            remaining = iter(given)
            leaves = [next(remaining) if each else row for row, each in zip(rows, split, strict=True)]
            # Itself again: under one more vmap it is looped once more.
            return looped(*jax.tree.unflatten(treedef, leaves))

        out = split_over_devices(partial(jax.lax.map, one), axis_size)(mapped)
        return out, jax.tree.map(lambda _: True, out)

    return looped

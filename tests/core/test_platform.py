"""The platform that programs are compiled for, and loops that follow it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from robust_jax import attacks, models
from robust_jax.core import loops
from robust_jax.core.loops import iterate, scan_steps
from robust_jax.core.mesh import DATA_AXIS, data_mesh
from robust_jax.core.platform import compiled_for, on_cpu, platform_of


@pytest.fixture(autouse=True)
def unrolled(monkeypatch):
    """As users have it; other tests unroll less."""
    monkeypatch.setattr(loops, "MAX_UNROLLED", 20)


def abstract_mesh(platform, size=4):
    device = AbstractDevice(device_kind="some accelerator", num_cores=None, platform=platform)
    return AbstractMesh((size,), (DATA_AXIS,), axis_types=(AxisType.Auto,), abstract_device=device)


def test_here_it_is_the_default_backend():
    assert platform_of() == jax.default_backend() == "cpu"
    assert on_cpu(jnp.zeros(3), data_mesh())


def test_each_source_decides_before_the_next():
    tpu, gpu = abstract_mesh("tpu"), abstract_mesh("gpu")
    array = jnp.zeros(3)
    assert platform_of(tpu) == "tpu"
    with jax.default_device("gpu"):
        assert platform_of() == "gpu"
        # Lies on a CPU.
        assert platform_of({"array": array}) == "cpu"
        with jax.sharding.use_abstract_mesh(tpu):
            assert platform_of() == platform_of(array) == "tpu"
            assert platform_of(gpu) == "gpu"
            with compiled_for("cpu"):
                assert on_cpu(gpu)
            assert platform_of() == "tpu"
    with pytest.raises(ValueError, match=r"Unknown platform 'tpuu'\. Did you mean 'tpu'"):
        compiled_for("tpuu")


def test_a_mesh_without_devices_says_nothing():
    mesh = AbstractMesh((4,), (DATA_AXIS,), axis_types=(AxisType.Auto,))
    with jax.sharding.use_abstract_mesh(mesh), jax.default_device("gpu"):
        assert platform_of(mesh) == "gpu"


def affine(static, i, carry, factor):
    return carry * factor + static * i


def run(steps, carry, factor):
    return iterate(affine, 0.5, range(2, 2 + steps), carry, factor)


def num_loops(lowered):
    return lowered.as_text().count("stablehlo.while")


def lower(function, *arguments):
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=("tpu",))


@pytest.mark.parametrize("context", [lambda: compiled_for("tpu"), lambda: abstract_mesh("tpu")])
def test_loops_follow_the_platform_not_the_host(context):
    """The same function, traced before for a CPU, which no cache may give back."""
    arguments = jnp.ones(3), jnp.float32(0.9)
    function = partial(run, 4)
    assert num_loops(jax.jit(function).lower(*arguments)) == 0
    given = context()
    with jax.sharding.use_abstract_mesh(given) if isinstance(given, AbstractMesh) else given:
        assert num_loops(lower(function, *arguments)) == 1
        steps = lambda carry, items: scan_steps(lambda c, item: (c + item, c), carry, items)  # noqa: E731
        assert num_loops(lower(steps, jnp.ones(3), (jnp.ones(3), jnp.ones(3)))) == 1
    assert num_loops(jax.jit(function).lower(*arguments)) == 0


def test_long_loops_are_loops():
    arguments = jnp.ones(3), jnp.float32(0.9)
    assert num_loops(jax.jit(partial(run, loops.MAX_UNROLLED)).lower(*arguments)) == 0
    assert num_loops(jax.jit(partial(run, loops.MAX_UNROLLED + 1)).lower(*arguments)) == 1


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_unrolled_looped_and_dispatched_are_equal(steps):
    carry, factor = jnp.linspace(-1, 1, 5), jnp.float32(0.9)
    expected = np.linspace(-1, 1, 5)
    for i in range(2, 2 + steps):
        expected = expected * 0.9 + 0.5 * i
    dispatched = run(steps, carry, factor)
    unrolled = jax.jit(partial(run, steps))(carry, factor)
    with compiled_for("gpu"):
        looped = jax.jit(partial(run, steps))(carry, factor)
    for found in (dispatched, unrolled, looped):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    gradients = [jax.grad(lambda factor: jnp.sum(run(steps, carry, factor)))]
    mapped = jax.vmap(partial(run, steps), (0, None))(carry, factor)
    np.testing.assert_allclose(mapped, expected, rtol=1e-6)
    if steps:
        slope = gradients[0](factor)
        by_differences = (np.sum(run(steps, carry, 0.91)) - np.sum(run(steps, carry, 0.89))) / 0.02
        np.testing.assert_allclose(slope, by_differences, rtol=1e-2)


def test_an_attack_is_the_same_unrolled_looped_and_dispatched():
    network = models.WideResNet(depth=10, width=1)
    params, state = models.init(network, jax.random.key(0), (8, 8, 3))
    logits_fn = models.predictor(network, {"params": params, **state})
    images = jax.random.uniform(jax.random.key(1), (4, 8, 8, 3))
    keys, labels = jax.random.split(jax.random.key(2), 4), jnp.arange(4)
    attack = attacks.PGD(eps=0.05, steps=3)
    found = {"dispatched": attack.run(keys, logits_fn, images, labels)}
    compiled = lambda: jax.jit(attack.run)(keys, logits_fn, images, labels)  # noqa: E731
    found["unrolled"] = compiled()
    with compiled_for("gpu"):
        found["looped"] = compiled()
    for result in found.values():
        np.testing.assert_allclose(result.loss, found["dispatched"].loss, rtol=1e-4)
        np.testing.assert_allclose(result.images, found["dispatched"].images, atol=1e-5)

"""Names in the store of finished cases come from what settings and data are, not from where they lie in memory."""

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from robust_jax import attacks, data, models, predictors, suites
from robust_jax.core.mesh import data_mesh
from robust_jax.suites.identity import digest, stable_tree

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1)).astype(np.uint8)
LABELS = np.arange(12) % 3


@dataclasses.dataclass(frozen=True)
class Own:
    """A component of somebody's own."""

    value: Any = None
    radius: float = 0.5


class Nameless:
    """An object without content that could be told."""


def double(x):
    return 2 * x


def scaled_by(factor) -> Callable:
    return lambda x: factor * x


def recursive(depth):
    def inner(x):
        return x if depth == 0 else inner(x)

    return inner


# Each makes a setting anew.
SETTINGS = {
    "literals": lambda: (1, 2.5, "a", None, True, float("inf")),
    "component": lambda: attacks.PGD(steps=3),
    "suite": lambda: suites.CommonCorruptions(("fog",), severities=(1.0, 2.0)),
    "dict": lambda: {"a": attacks.FGSM(), 3: (1, 2)},
    "function": lambda: Own(double),
    "closure": lambda: Own(scaled_by(3.0)),
    "closure over an array": lambda: Own(scaled_by(np.arange(3.0))),
    "method": lambda: Own(Own(2.0).__eq__),
    "recursive": lambda: Own(recursive(3)),
    "jitted": lambda: Own(jax.jit(scaled_by(3.0))),
    "library": lambda: (Own(jnp.tanh), Own(jax.nn.relu), Own(np.tanh), Own(len), Own(np.float32)),
    "partial": lambda: Own(Partial(double, jnp.arange(4.0))),
    "array": lambda: Own(np.linspace(0, 1, 5)),
    "device array": lambda: Own(jnp.linspace(0, 1, 5)),
    "key": lambda: jax.random.key(3),
    "data in memory": lambda: data.Arrays(test=(IMAGES.copy(), LABELS.copy())),
    "network": lambda: models.ResNet(stage_sizes=(1,), width=4, num_classes=3),
    "predictor": lambda: predictors.Network(
        models.ResNet(stage_sizes=(1,), width=4, num_classes=3), {"params": {"w": jnp.ones(3)}}
    ),
}
CHANGED = {
    "literals": lambda: (1, 2.5, "a", None, 1, float("inf")),
    "component": lambda: attacks.PGD(steps=4),
    "suite": lambda: suites.CommonCorruptions(("fog",), severities=(1.0, 3.0)),
    "dict": lambda: {"a": attacks.FGSM(), "3": (1, 2)},
    "function": lambda: Own(lambda x: 2 * x),
    "closure": lambda: Own(scaled_by(4.0)),
    "closure over an array": lambda: Own(scaled_by(np.arange(1.0, 4.0))),
    "method": lambda: Own(Own(3.0).__eq__),
    "recursive": lambda: Own(recursive(4)),
    "jitted": lambda: Own(jax.jit(scaled_by(4.0))),
    "library": lambda: (Own(jnp.sinh), Own(jax.nn.relu), Own(np.tanh), Own(len), Own(np.float32)),
    "partial": lambda: Own(Partial(double, jnp.arange(1.0, 5.0))),
    "array": lambda: Own(np.linspace(0, 1, 5).astype(np.float32)),
    "device array": lambda: Own(jnp.linspace(0, 2, 5)),
    "key": lambda: jax.random.key(4),
    "data in memory": lambda: data.Arrays(test=(IMAGES.copy(), LABELS[::-1].copy())),
    "network": lambda: models.ResNet(stage_sizes=(1,), width=8, num_classes=3),
    "predictor": lambda: predictors.Network(
        models.ResNet(stage_sizes=(1,), width=4, num_classes=3), {"params": {"w": jnp.zeros(3)}}
    ),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_equal_settings_have_one_name_and_changed_ones_another(kind):
    first, again, changed = SETTINGS[kind](), SETTINGS[kind](), CHANGED[kind]()
    assert digest(first) == digest(again) != digest(changed)
    text = json.dumps(stable_tree(first))
    assert text == json.dumps(stable_tree(again))
    assert not re.search(r"0x[0-9a-f]{6,}", text)
    assert str(id(first)) not in text


def test_settings_are_kept_apart():
    assert digest("a", "b") != digest("ab") != digest(("a", "b"))
    assert digest(1, (2, 3)) != digest((1, 2), 3)
    assert digest(Own(1)) != digest({"value": 1, "radius": 0.5})


def test_what_has_no_content_is_refused():
    with pytest.raises(TypeError, match=r"Expected a literal, .* got .*Nameless"):
        digest(Own(Nameless()))
    with pytest.raises(TypeError, match=r"array of numbers"):
        digest(np.array([{}], dtype=object))


def test_another_process_finds_the_same_name():
    program = (
        "import jax; from robust_jax import attacks, suites; from robust_jax.suites.identity import digest;"
        "print(digest(attacks.PGD(steps=3), suites.Clean(), jax.random.key(3), jax.nn.relu))"
    )
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()
    assert found == digest(attacks.PGD(steps=3), suites.Clean(), jax.random.key(3), jax.nn.relu)


def evaluation(images=IMAGES, labels=LABELS, *, batch_size=5, **options):
    source = data.Arrays(test=(images, labels), name="toy").load("test")
    return data.evaluation(source, batch_size=batch_size, mesh=data_mesh(jax.devices()[:1]), **options)


def test_data_are_known_by_their_content_whatever_the_batches():
    expected = evaluation().fingerprint
    assert evaluation(batch_size=12).fingerprint == evaluation(resident=False).fingerprint == expected
    brighter = IMAGES.copy()
    brighter[7, 0, 0] ^= 1
    assert evaluation(brighter).fingerprint != expected
    assert evaluation(labels=np.roll(LABELS, 1)).fingerprint != expected
    assert evaluation(IMAGES[::-1], LABELS[::-1]).fingerprint != expected
    other = data.evaluation(evaluation().source.subset(np.arange(6)), batch_size=5, mesh=data_mesh(jax.devices()[:1]))
    assert other.fingerprint != expected


def test_large_data_are_known_by_their_ids_and_some_examples(monkeypatch):
    # `data.evaluation` is the function of that name.
    module = sys.modules["robust_jax.data.evaluation"]
    monkeypatch.setattr(module, "HASHED_BYTES", 10)
    monkeypatch.setattr(module, "HASHED_EXAMPLES", 3)
    expected = evaluation().fingerprint
    assert evaluation(batch_size=12).fingerprint == expected
    brighter = IMAGES.copy()
    brighter[0, 0, 0] ^= 1
    assert evaluation(brighter).fingerprint != expected
    order = np.array([0, 2, 1, *range(3, 12)])
    source = evaluation().source.subset(order)
    assert data.evaluation(source, batch_size=5, mesh=data_mesh(jax.devices()[:1])).fingerprint != expected


def test_a_changed_image_is_measured_again():
    """Under one name, of one shape and size: only the content tells them apart."""
    store = suites.CaseStore()
    predictor = lambda images: images.reshape(len(images), -1)[:, :3]  # noqa: E731
    rows = [
        list(suites.Clean().rows(suites.Context(None, predictor, evaluation(images), store=store)))
        for images in (IMAGES, np.flip(IMAGES, axis=1).copy())
    ]
    assert rows[0] != rows[1]

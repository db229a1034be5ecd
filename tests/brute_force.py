"""Small networks and their data, and derivatives one example after the other, for tests of posteriors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from robust_jax import models
from robust_jax.types import Batch, Output

KEY = jax.random.key(0)
SHAPE = (8, 8, 3)
NETWORKS = {
    "resnet": models.ResNet(stage_sizes=(1,), width=4, num_classes=3),
    "vit": models.ViT(width=4, depth=1, heads=2, num_classes=3),
}


@dataclasses.dataclass(frozen=True)
class Linear:
    """Logits that are linear in the pixels."""

    def apply(self, variables, images, *, train, rngs=None, mutable=()):
        features = images.reshape(images.shape[0], -1)
        output = Output(features @ variables["params"]["head"]["kernel"], features)
        return (output, {}) if train else output


def trained(model):
    params, state = models.init(model, KEY, SHAPE)
    params["head"]["kernel"] = jax.random.normal(jax.random.key(3), params["head"]["kernel"].shape)
    images = jax.random.uniform(jax.random.key(1), (12, *SHAPE))
    labels = jax.random.randint(jax.random.key(2), (12,), 0, 3)
    return model, {"params": params, **state}, batch_of(images, labels)


def batch_of(images, labels, mask=None):
    size = len(images)
    mask = jnp.ones(size, bool) if mask is None else mask
    return Batch(jnp.asarray(images, jnp.float32), jnp.asarray(labels), mask, jnp.arange(size))


def brute_force(model, variables, batch, of=lambda path: True):
    """Per-example Jacobians of the logits [n, k, p] in some parameters, and Hessians of the loss."""
    leaves, treedef = jax.tree_util.tree_flatten_with_path(variables["params"])
    chosen = [i for i, (path, _) in enumerate(leaves) if of("/".join(entry.key for entry in path))]

    def logits(some, image):
        whole = [leaf for _, leaf in leaves]
        for i, leaf in zip(chosen, some, strict=True):
            whole[i] = leaf
        params = jax.tree.unflatten(treedef, whole)
        return model.apply({**variables, "params": params}, image[None], train=False).prediction[0]

    jacobian = jax.jit(jax.vmap(jax.jacrev(logits), (None, 0)))([leaves[i][1] for i in chosen], batch.image)
    flat = np.concatenate([np.asarray(part, np.float64).reshape(*part.shape[:2], -1) for part in jacobian], axis=-1)
    probs = special.softmax(np.asarray(models.predictor(model, variables)(batch.image), np.float64), axis=1)
    hessian = np.einsum("bk,kl->bkl", probs, np.eye(3)) - np.einsum("bk,bl->bkl", probs, probs)
    return flat, hessian


def expected_covariances(jacobian, precision):
    return np.einsum("bki,ij,blj->bkl", jacobian, np.linalg.inv(precision), jacobian)

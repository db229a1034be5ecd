"""AutoAttack, ours against the original in PyTorch: the same robust accuracies?

Two networks are attacked in Linf and L2 at several radii, by the standard version: the published ResNet-20 for
CIFAR-10, and one that starts from it and is trained adversarially here, with batch norm as it was: each batch is
attacked by a step of R-FGSM (Wong et al., "Fast is better than free", arXiv 2001.03994) whose radius grows to 8/255.
Robust accuracies after each attack stand beside each other; both draw starts of their own, so single examples may
differ.

Needs PyTorch and the package autoattack from the repository of Croce & Hein. Takes about an hour on two cores.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from attack_parity import as_torch, keys_of, resnet20
from attacks import MEAN, STD, first_images, torch_resnet
from attacks import Arguments as AttackArguments
from jax.tree_util import Partial
from jaxtyping import Array
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors.numpy import load_file, save_file

from robust_jax import attacks, models, weights
from robust_jax.types import Images

CASES = (
    ("standard", "Linf", 1 / 255),
    ("adversarial", "Linf", 8 / 255),
    ("adversarial", "Linf", 4 / 255),
    ("standard", "L2", 0.25),
    ("adversarial", "L2", 0.5),
    ("adversarial", "L2", 1.0),
    ("standard", "Linf", 0.5 / 255),
    ("standard", "L2", 0.1),
)
"""Networks, norms and radii."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    weights: Path = AttackArguments.weights
    """Of the ResNet-20."""
    data_dir: Path = AttackArguments.data_dir
    """Where the data sets of TFDS are."""
    num_images: int = 200
    """How many images are attacked, the first of the lossless training set."""
    cases: tuple[int, ...] = tuple(range(len(CASES)))
    """Which of the networks, norms and radii, by number."""
    adversarial: Path | None = None
    """File for the weights of the network that is trained adversarially; where it exists, they are read from it."""
    epochs: int = 15
    """Of adversarial training."""
    num_train: int = 4000
    """Images to train on, the first."""
    threads: int = 2
    """Of PyTorch, and on a CPU devices of JAX, over which the images are split."""


def main(arguments: Arguments) -> None:
    import torch

    jax.config.update("jax_num_cpu_devices", arguments.threads)
    torch.set_num_threads(arguments.threads)
    images, labels = first_images(AttackArguments(num_images=arguments.num_images, data_dir=arguments.data_dir))
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.adversarial or Path(folder) / "adversarial.safetensors"
        if not path.exists() and any(CASES[number][0] == "adversarial" for number in arguments.cases):
            save_file(train_adversarially(arguments), path)
        compare(arguments, {"standard": arguments.weights, "adversarial": path}, images, labels, console)


def compare(arguments: Arguments, paths: dict[str, Path], images: Images, labels: Array, console: Console) -> None:
    table = Table(title=f"of {len(images)} images, how many are right after each attack of AutoAttack")
    table.add_column("network")
    for column in ("norm", "radius", "", "clean", *attacks.AutoAttack().stages, "seconds"):
        table.add_column(column, justify="right")
    for number in track(arguments.cases, description="cases", console=console):
        name, norm, eps = CASES[number]
        for who, count in (("ours", count_ours), ("original", count_original)):
            start = time.perf_counter()
            left = count(paths[name], images, labels, norm, eps)
            seconds = f"{time.perf_counter() - start:.0f}"
            table.add_row(name, norm, f"{eps:.4f}", who, *map(str, left), seconds)
            console.log(name, norm, f"{eps:.4f}", who, *left, f"{seconds} s")
    console.print(table)


def count_ours(path: Path, images: Images, labels: Array, norm: str, eps: float) -> list[int]:
    network = models.cifar_resnet(20, mean=MEAN, std=STD)
    params, state = weights.load_weights(path, network, (32, 32, 3))
    predictor = models.predictor(network, {"params": params, **state})
    attack = attacks.AutoAttack(norm=norm, eps=eps)
    result = attack.run(keys_of(images), predictor, images, labels)
    stages = attack.stages
    return [int(result.robust_after(*stages[:number]).sum()) for number in range(len(stages) + 1)]


def count_original(path: Path, images: Images, labels: Array, norm: str, eps: float) -> list[int]:
    import torch
    from autoattack import AutoAttack

    model = torch_resnet(path)
    x, y = as_torch(images), torch.tensor(np.asarray(labels)).long()

    def right(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return model(x).argmax(dim=1) == y

    x, y = (values[right(x, y)] for values in (x, y))
    left = [len(x)]
    whole = AutoAttack(model, norm=norm, eps=eps, device="cpu", seed=0, verbose=False)
    for stage in attacks.AutoAttack().stages:
        whole.attacks_to_run = [stage]
        if len(x):
            robust = right(whole.run_standard_evaluation(x, y, bs=len(x)), y)
            x, y = x[robust], y[robust]
        left.append(len(x))
    return left


def train_adversarially(arguments: Arguments) -> dict[str, np.ndarray]:
    """The network's weights, by their names in PyTorch."""
    data = AttackArguments(num_images=arguments.num_train, data_dir=arguments.data_dir)
    images, labels = map(np.asarray, first_images(data))
    weights = {name: jnp.asarray(array) for name, array in load_file(arguments.weights).items()}
    norms = {name: array for name, array in weights.items() if "running" in name or "num_batches" in name}
    params = {name: array for name, array in weights.items() if name not in norms}
    batch_size = 125
    num_steps = arguments.epochs * len(images) // batch_size
    optimiser = optax.adam(3e-4)
    attack, radii = attacks.RFGSM(), optax.linear_schedule(0.0, 8 / 255, 5 * num_steps // 6)

    @jax.jit
    def step(params: dict[str, Array], state: optax.OptState, images: Array, labels: Array):
        def loss(params: dict[str, Array]) -> Array:
            return jnp.mean(attacks.cross_entropy(resnet20({**params, **norms}, images), labels))

        updates, state = optimiser.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    rng, state = np.random.default_rng(0), optimiser.init(params)
    order = np.concatenate([rng.permutation(len(images)) for _ in range(arguments.epochs)])
    for number in track(range(num_steps), description="adversarial training"):
        rows = order[number * batch_size : (number + 1) * batch_size]
        flipped = np.where(rng.random((len(rows), 1, 1, 1)) < 0.5, images[rows], images[rows, :, ::-1])
        keys = jax.random.split(jax.random.key(number), len(rows))
        # Outside of the compiled step: within it the attack's loop has slow convolutions on a CPU.
        predictor = Partial(resnet20, {**params, **norms})
        adversarial = attack(keys, predictor, flipped, labels[rows], eps=float(radii(number)))
        params, state = step(params, state, adversarial, labels[rows])
    return {name: np.asarray(array) for name, array in {**params, **norms}.items()}


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))

"""A run whose results depend on the number of devices through rounding alone.

The network is smooth: a ReLU whose input is within rounding of 0 can switch between numbers of devices, which changes
the gradient by 1e-4 and all later steps with it.
"""

from robust_jax import augmentations, data, models, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(title="A smooth run", claim="it ends")


def get_runs(scale: Scale = "smoke") -> dict[str, train.Experiment]:
    return {
        "smooth": train.Experiment(
            data=data.Digits(),
            model=models.WideResNet(depth=10, width=1, stem="patch", activation="silu"),
            augmentation=augmentations.RandomLp("c2"),
            optimiser=train.Sgd(learning_rate=0.05),
            averaging=train.Ema(decay=0.9),
            epochs=2,
            batch_size=80,
            suites={"clean": suites.Clean()},
            execution=train.Execution(checkpoint_every=5, log_every=5, eval_batch_size=120),
        )
    }

"""A run of a few steps, for tests that start and stop whole processes."""

from robust_jax import augmentations, data, models, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(title="A tiny run", claim="it ends")


def get_runs(scale: Scale = "smoke") -> dict[str, train.Experiment]:
    return {
        "tiny": train.Experiment(
            data=data.Digits(),
            model=models.ResNet(stage_sizes=(1,), width=8),
            augmentation=augmentations.RandomLp("c2"),
            optimiser=train.Sgd(learning_rate=0.05),
            averaging=train.Ema(decay=0.9),
            epochs=2,
            batch_size=80,
            suites={"clean": suites.Clean()},
            execution=train.Execution(checkpoint_every=5, log_every=5, eval_batch_size=120),
        )
    }

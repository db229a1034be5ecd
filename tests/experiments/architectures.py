"""Every architecture on the digits, in either precision, as small as it goes."""

from robust_jax import data, models, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(title="Architectures on handwritten digits", claim="each one learns")

# Each with the epochs that it needs.
NETWORKS = {
    "wide_resnet": (models.WideResNet(depth=10, width=1, dropout=0.1), 4),
    "resnet": (models.ResNet(stage_sizes=(1, 1), width=16, variant="preact", norm="group"), 4),
    "vit": (models.ViT(patch_size=4, width=32, depth=2, heads=2, stochastic_depth=0.1), 5),
    "ode_net": (models.ODENet(width=16, downsamplings=1, num_steps=1), 9),
}


def get_runs(scale: Scale = "smoke") -> dict[str, train.Experiment]:
    return {
        f"{name}_{precision}": train.Experiment(
            data=data.Digits(validation=0.1),
            model=model,
            precision=precision,
            optimiser=train.AdamW(learning_rate=1e-2, weight_decay=0.01),
            schedule=train.Cosine(warmup_epochs=1),
            averaging=train.Ema(decay=0.95),
            epochs=epochs,
            batch_size=64,
            execution=train.Execution(num_devices=1),
            suites={"clean": suites.Clean()},
        )
        for name, (model, epochs) in NETWORKS.items()
        for precision in ("float32", "bfloat16")
    }

"""Training: experiments, optimisers, the compiled step, the loop, checkpoints."""

from robust_jax.train.averaging import Ema, Snapshots
from robust_jax.train.distributed import parse_distributed, start_distributed
from robust_jax.train.experiment import Execution, Experiment, over_seeds, stage_experiments
from robust_jax.train.gradients import Gradient, Mean, PerExampleClipped, Sharpness, WeightPerturbed
from robust_jax.train.initial import FromRun
from robust_jax.train.log import NonFiniteLossError
from robust_jax.train.loop import Trained, fit, fit_members, restore
from robust_jax.train.optimisers import AdamW, Sgd
from robust_jax.train.predictive import TrainedEnsemble, fit_predictor, member_experiments, restore_predictor
from robust_jax.train.preemption import Preempted
from robust_jax.train.schedules import Constant, Cosine, WarmRestarts
from robust_jax.train.selection import Best
from robust_jax.train.stage import Stage, Stream
from robust_jax.train.state import TrainState, Variables
from robust_jax.train.step import make_train_step

__all__ = [
    "AdamW",
    "Best",
    "Constant",
    "Cosine",
    "Ema",
    "Execution",
    "Experiment",
    "FromRun",
    "Gradient",
    "Mean",
    "NonFiniteLossError",
    "PerExampleClipped",
    "Preempted",
    "Sgd",
    "Sharpness",
    "Snapshots",
    "Stage",
    "Stream",
    "TrainState",
    "Trained",
    "TrainedEnsemble",
    "Variables",
    "WarmRestarts",
    "WeightPerturbed",
    "fit",
    "fit_members",
    "fit_predictor",
    "make_train_step",
    "member_experiments",
    "over_seeds",
    "parse_distributed",
    "restore",
    "restore_predictor",
    "stage_experiments",
    "start_distributed",
]

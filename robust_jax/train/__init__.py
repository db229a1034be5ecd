"""Training: experiments, optimisers, the compiled step, the loop, checkpoints."""

from robust_jax.train.averaging import Ema, Snapshots
from robust_jax.train.distributed import parse_distributed, start_distributed
from robust_jax.train.experiment import Execution, Experiment, over_seeds
from robust_jax.train.log import NonFiniteLossError
from robust_jax.train.loop import Trained, fit, fit_members, restore
from robust_jax.train.optimisers import AdamW, Sgd
from robust_jax.train.predictive import TrainedEnsemble, fit_predictor, member_experiments, restore_predictor
from robust_jax.train.preemption import Preempted
from robust_jax.train.schedules import Constant, Cosine, WarmRestarts
from robust_jax.train.state import TrainState
from robust_jax.train.step import make_train_step

__all__ = [
    "AdamW",
    "Constant",
    "Cosine",
    "Ema",
    "Execution",
    "Experiment",
    "NonFiniteLossError",
    "Preempted",
    "Sgd",
    "Snapshots",
    "TrainState",
    "Trained",
    "TrainedEnsemble",
    "WarmRestarts",
    "fit",
    "fit_members",
    "fit_predictor",
    "make_train_step",
    "member_experiments",
    "over_seeds",
    "parse_distributed",
    "restore",
    "restore_predictor",
    "start_distributed",
]

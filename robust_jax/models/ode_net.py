"""Neural ordinary differential equations."""

from __future__ import annotations

from typing import Literal

import diffrax
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from robust_jax.core.checks import check_choice, check_positive
from robust_jax.models.layers import Dtype, at_least_float32, classify, conv, norm, normalise
from robust_jax.types import Images, Output

# Solver, and evaluations of the dynamics per step and before the first.
SOLVERS = {
    "euler": (diffrax.Euler, 1, 0),
    "midpoint": (diffrax.Midpoint, 2, 0),
    "heun": (diffrax.Heun, 2, 0),
    "bosh3": (diffrax.Bosh3, 3, 1),
    "tsit5": (diffrax.Tsit5, 6, 1),
    "dopri5": (diffrax.Dopri5, 6, 1),
}
ADAPTIVE = ("heun", "bosh3", "tsit5", "dopri5")
ADJOINTS = {
    "recursive_checkpoint": diffrax.RecursiveCheckpointAdjoint,
    "direct": diffrax.DirectAdjoint,
    "backsolve": diffrax.BacksolveAdjoint,
}


class ODENet(nn.Module):
    r"""ODE-Net (Chen et al., 1806.07366, section 3): a convolutional stem, then :math:`\dot y = f(t, y)` over [0, 1].

    The dynamics f are two 3×3 convolutions that see the time as one more channel, group-normed. With fixed steps the
    batch is solved as one state. With ``adaptive`` every example has its own steps, so that a prediction does not
    depend on the batch it came in. The state is float32 throughout.

    ``Output.extras["num_function_evaluations"]`` counts evaluations of f per example.

    Raises:
        ValueError: on an unknown solver or adjoint, or an adaptive solver without an error estimate.
    """

    num_classes: int = 10
    """Number of logits."""
    width: int = 64
    """Channels of the state."""
    downsamplings: int = 2
    """Stem convolutions with stride 2."""
    solver: Literal["euler", "midpoint", "heun", "bosh3", "tsit5", "dopri5"] = "heun"
    """Runge–Kutta method."""
    adaptive: bool = False
    """Choose the steps by an error estimate."""
    num_steps: int = 4
    """Steps, where they are fixed."""
    rtol: float = 1e-3
    """Relative error allowed per step, where they are adaptive."""
    atol: float = 1e-3
    """Absolute error allowed per step, where they are adaptive."""
    max_steps: int = 128
    """Most steps, where they are adaptive; needing more is an error."""
    adjoint: Literal["recursive_checkpoint", "direct", "backsolve"] = "recursive_checkpoint"
    """How gradients are taken: through the steps (reverse mode; or both modes), or by the backward ODE."""
    mean: tuple[float, ...] = (0.5,)
    """Subtracted from the image, per channel or one for all."""
    std: tuple[float, ...] = (0.25,)
    """Divides the image, per channel or one for all."""
    dtype: Dtype = "float32"
    """Computation type of the convolutions, float32, bfloat16 or float64; parameters, state and logits are float32."""

    @nn.compact
    def __call__(self, images: Images, *, train: bool = False) -> Output:
        check_choice("solver", self.solver, SOLVERS)
        check_choice("adjoint", self.adjoint, ADJOINTS)
        check_positive("num_steps", self.num_steps)
        if self.adaptive and self.solver not in ADAPTIVE:
            raise ValueError(f"Expected a solver with an error estimate, {ADAPTIVE}, got solver={self.solver!r}.")
        x = normalise(images, self.mean, self.std, self.dtype)
        x = conv(self.width, 3, dtype=self.dtype, name="stem_conv")(x)
        for i in range(self.downsamplings):
            x = nn.relu(norm("group", train=train, dtype=self.dtype, name=f"stem_norm{i}")(x))
            x = conv(self.width, 3, stride=2, dtype=self.dtype, name=f"stem_down{i}")(x)
        state = at_least_float32(x)
        dynamics = Dynamics(self.width, self.dtype, parent=None)
        params = self.param("dynamics", lambda key: dynamics.init(key, 0.0, state[:1])["params"])
        state, evaluations = self._solve(dynamics, params, state)
        x = nn.relu(norm("group", train=train, dtype=self.dtype, name="final_norm")(state))
        features, logits = classify(x, self.num_classes)
        return Output(logits, features, {"num_function_evaluations": evaluations})

    def _solve(self, dynamics: Dynamics, params: PyTree, state: Float[Array, "b h w c"]) -> tuple[Array, Array]:
        solver, per_step, before = SOLVERS[self.solver]
        controller = diffrax.PIDController(self.rtol, self.atol) if self.adaptive else diffrax.ConstantStepSize()

        def solve(state: Float[Array, "n h w c"]) -> tuple[Array, Array]:
            solution = diffrax.diffeqsolve(
                diffrax.ODETerm(lambda t, y, params: dynamics.apply({"params": params}, t, y)),
                solver(),
                t0=0.0,
                t1=1.0,
                dt0=None if self.adaptive else 1 / self.num_steps,
                y0=state,
                args=params,
                saveat=diffrax.SaveAt(t1=True),
                stepsize_controller=controller,
                adjoint=ADJOINTS[self.adjoint](),
                max_steps=self.max_steps if self.adaptive else self.num_steps + 1,
                throw=self.adaptive,
            )
            (states,) = jax.tree.leaves(solution.ys)
            return states[0], solution.stats["num_steps"] * per_step + before

        if self.adaptive:
            state, evaluations = jax.vmap(lambda y: solve(y[None]))(state)
            return state[:, 0], evaluations.astype(jnp.float32)
        batch = state.shape[0]
        state, evaluations = solve(state)
        return state, jnp.full((batch,), evaluations, jnp.float32)


class Dynamics(nn.Module):
    """f(t, y): norm, ReLU, convolution, twice, and a last norm; the time is appended as a channel."""

    width: int
    dtype: Dtype

    @nn.compact
    def __call__(self, t: Float[Array, ""], y: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        time = jnp.broadcast_to(jnp.asarray(t, self.dtype), (*y.shape[:-1], 1))
        for i in range(2):
            y = nn.relu(norm("group", train=False, dtype=self.dtype, name=f"norm{i}")(y))
            y = conv(self.width, 3, dtype=self.dtype, name=f"conv{i}")(jnp.concatenate([y, time], axis=-1))
        return at_least_float32(norm("group", train=False, dtype=self.dtype, name="norm2")(y))

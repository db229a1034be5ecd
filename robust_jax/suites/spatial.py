"""Error under rotations and translations: random ones, and the worst of many (arXiv 1712.02779)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from robust_jax import attacks
from robust_jax.attacks import Attack, ParameterPGD, ParameterSearch
from robust_jax.core.checks import check_non_negative
from robust_jax.core.keys import example_keys, named_key
from robust_jax.declarations import Column
from robust_jax.predictors import Vote, through
from robust_jax.suites.adversarial import attack_batch, attacked, clean_examples, proportion_row
from robust_jax.suites.base import Context, Suite
from robust_jax.suites.case import measure_batch, run_case
from robust_jax.suites.identity import digest
from robust_jax.suites.samples import Samples, predicted_samples
from robust_jax.suites.store import Table
from robust_jax.types import Batch, Image, Images, LogitsFn, PRNGKey, Row

NAME = "spatial"
RANDOM = "random"


@dataclasses.dataclass(frozen=True)
class Spatial(Suite):
    """Error on rotated and translated images: each by a random amount, by the worst of several, and of a grid.

    Cases: ``random``, one draw for each image; ``worst of 10``; ``first order``, gradient ascent on the three
    parameters; ``grid``. The attacks count images that are misclassified as they are, ``random`` does not.

    With ``votes``, all of it is of the majority over random transforms of the input, and so the cases say; one more,
    ``clean``, is of images as they are.

    Raises:
        ValueError: if a number is out of range, or the grid is not of three axes.

    References:
        Engstrom, Tran, Tsipras, Schmidt & Madry, "Exploring the landscape of spatial robustness" (arXiv 1712.02779).
    """

    threat: attacks.Spatial = attacks.Spatial()
    """Limits of the rotation and the translation."""
    draws: int = 10
    """Random transforms of which the worst is taken; 0 leaves the case out."""
    first_order_steps: int = 0
    """Gradients of the first-order attack; 0 leaves the case out."""
    grid: tuple[int, ...] | None = (5, 5, 31)
    """Translations to the right, down, and rotations of the grid; None leaves the case out."""
    votes: int = 0
    """Random transforms whose majority is tested, in place of the classifier itself; published: 10."""

    name: ClassVar[str] = NAME

    def __post_init__(self):
        for name in ("draws", "first_order_steps", "votes"):
            check_non_negative(name, getattr(self, name))
        _ = self.attacks

    @property
    def attacks(self) -> dict[str, Attack]:
        """By the names of their cases."""
        found: dict[str, Attack] = {}
        # Error counts what breaks, not by how much: examples are left alone once they are broken.
        search = partial(ParameterSearch, threat=self.threat, early_stop=True)
        if self.draws:
            found[f"worst of {self.draws}"] = search(draws=self.draws)
        if self.first_order_steps:
            found["first order"] = ParameterPGD(threat=self.threat, steps=self.first_order_steps, early_stop=True)
        if self.grid is not None:
            found["grid"] = search(grid=self.grid)
        return found

    @property
    def num_cases(self) -> int:
        return 1 + len(self.attacks)

    @property
    def suffix(self) -> str:
        """What the names of cases end in."""
        return f", vote of {self.votes}" if self.votes else ""

    @property
    def columns(self) -> tuple[Column, ...]:
        cases = (*(["clean"] if self.votes else []), RANDOM, *self.attacks)
        cases = [f"{case}{self.suffix}" for case in cases]
        return tuple(Column(f"{case} error %", case, "error", scale=100) for case in cases)

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields the error of each case when it is done, with 95 % intervals, and the attacks' success rates."""
        fields = {**context.fields(self.name), "severity": None}
        if self.votes:
            context = self._voting(context)
        wrong, _ = clean_examples(context)
        if self.votes:
            yield proportion_row("error", wrong, **fields, case=f"clean{self.suffix}")
        table = self._random(context)
        context.advance()
        yield proportion_row("error", table["error"], **fields, case=f"{RANDOM}{self.suffix}")
        for name, attack in self.attacks.items():
            table = attacked(context, attack, 1.0, (1.0,), wrong)
            broken, case = wrong | table["success"], f"{name}{self.suffix}"
            yield proportion_row("error", broken, **fields, case=case)
            if not wrong.all():
                yield proportion_row("success_rate", broken[~wrong], **fields, case=case)

    def samples(self, context: Context, *, num_images: int = 6) -> Samples:
        """The first images, turned and moved at random, and by the worst of each kind."""
        context = self._voting(context) if self.votes else context
        batch = next(iter(context.data.batches()))
        columns = {"clean": batch.image, RANDOM: _transformed(self.threat, named_key(context.key, NAME), batch)}
        for case, attack in self.attacks.items():
            columns[case] = attack_batch(context.key, attack, context.predictor, batch, 1.0).images
        return predicted_samples(context, columns, batch.label, num_images=num_images)

    def _voting(self, context: Context) -> Context:
        """The majority over random transforms in place of the predictor, with a store of its own."""
        store = context.store.other(f"{NAME}_vote_of_{self.votes}_{digest(context.key, self.threat)}")
        return dataclasses.replace(context, predictor=self._majority(context.key, context.predictor), store=store)

    def _majority(self, key: PRNGKey, predictor: LogitsFn) -> LogitsFn:
        transformed = through(predictor, partial(_transformed_image, self.threat))
        return Vote(transformed, named_key(key, "vote"), self.votes)

    def _random(self, context: Context) -> Table:
        def compute() -> Table:
            classifier, key = context.classifier(), context.key

            def program(batch: Batch) -> dict[str, Array]:
                images = _transformed(self.threat, named_key(key, NAME), batch)
                # Laid out as the clean images are, the network does not compile again.
                images = jax.device_put(images, batch.image.sharding)
                return measure_batch(classifier, batch._replace(image=images))

            return {"error": run_case(program, context.data)["error"]}

        return context.store.table(context.folder(NAME, context.key, self.threat), RANDOM, compute)


@partial(jax.jit, static_argnums=0)
def _transformed(threat: attacks.Spatial, key: PRNGKey, batch: Batch) -> Images:
    """Each image by a transform of its own."""
    return jax.vmap(partial(_transformed_image, threat))(example_keys(key, batch.id), batch.image)


def _transformed_image(threat: attacks.Spatial, key: PRNGKey, image: Image) -> Image:
    return threat.apply(threat.random(key, image, jnp.float32(1)), image)

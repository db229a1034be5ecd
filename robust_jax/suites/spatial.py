"""Error under rotations and translations: random ones, and the worst of many (arXiv 1712.02779)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from robust_jax import attacks
from robust_jax.attacks import Attack, ParameterPGD, ParameterSearch
from robust_jax.core.checks import check_non_negative
from robust_jax.core.keys import example_keys, named_key
from robust_jax.predictors import Vote, through
from robust_jax.suites.adversarial import attack_batch, attacked, clean_examples, proportion_row
from robust_jax.suites.case import RowLabels, admitted, measure_batch, run_case
from robust_jax.suites.samples import Samples, predicted_samples
from robust_jax.suites.store import CaseStore, Table, digest, identity
from robust_jax.types import Batch, Evaluation, Image, Images, LogitsFn, PRNGKey, Row

NAME = "spatial"
RANDOM = "random"


@dataclasses.dataclass(frozen=True)
class Spatial:
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

    def rows(
        self,
        key: PRNGKey,
        predictor: LogitsFn,
        data: Evaluation,
        *,
        store: CaseStore | None = None,
        labels: RowLabels = RowLabels(),
        advance: Callable[..., None] = lambda share=1.0: None,
    ) -> Iterator[Row]:
        """Yields the error of each case when it is done, with 95 % intervals, and the attacks' success rates.

        Args:
            key: of the random transforms.
            predictor: any callable from images to logits.
            data: the examples.
            store: where finished batches are kept and looked for.
            labels: of the rows.
            advance: called with the share of a case that has been done.
        """
        store = store or CaseStore()
        columns = {**dataclasses.asdict(labels), "dataset": data.name, "suite": NAME, "severity": None}
        if self.votes:
            predictor = self._majority(key, predictor)
            settings = digest(jax.random.key_data(key).tolist(), repr(self.threat))
            store = store.other(f"{NAME}_vote_of_{self.votes}_{settings}")
        wrong, _ = clean_examples(predictor, data, store)
        if self.votes:
            yield proportion_row("error", wrong, **columns, case=f"clean{self.suffix}")
        table = self._random(key, predictor, data, store)
        advance()
        yield proportion_row("error", table["error"], **columns, case=f"{RANDOM}{self.suffix}")
        for name, attack in self.attacks.items():
            table = attacked(key, attack, predictor, data, store, 1.0, (1.0,), wrong, advance)
            broken, case = wrong | table["success"], f"{name}{self.suffix}"
            yield proportion_row("error", broken, **columns, case=case)
            if not wrong.all():
                yield proportion_row("success_rate", broken[~wrong], **columns, case=case)

    def samples(self, key: PRNGKey, predictor: LogitsFn, data: Evaluation, *, num_images: int = 6) -> Samples:
        """The first images, turned and moved at random, and by the worst of each kind."""
        predictor = self._majority(key, predictor) if self.votes else predictor
        batch = next(iter(data.batches()))
        columns = {"clean": batch.image, RANDOM: _transformed(self.threat, named_key(key, NAME), batch)}
        for case, attack in self.attacks.items():
            columns[case] = attack_batch(key, attack, predictor, batch, 1.0).images
        return predicted_samples(predictor, columns, batch.label, data.class_names, num_images=num_images)

    def _majority(self, key: PRNGKey, predictor: LogitsFn) -> LogitsFn:
        transformed = through(predictor, partial(_transformed_image, self.threat))
        return Vote(transformed, named_key(key, "vote"), self.votes)

    def _random(self, key: PRNGKey, predictor: LogitsFn, data: Evaluation, store: CaseStore) -> Table:
        place = f"{NAME}_{digest(identity(data), jax.random.key_data(key).tolist(), repr(self.threat))}", RANDOM
        table = store.get(*place)
        if table is None:
            classifier = admitted(predictor, data)

            def program(batch: Batch) -> dict[str, Array]:
                images = _transformed(self.threat, named_key(key, NAME), batch)
                # Laid out as the clean images are, the network does not compile again.
                images = jax.device_put(images, batch.image.sharding)
                return measure_batch(classifier, batch._replace(image=images))

            table = {"error": np.asarray(run_case(program, data)["error"])}
            store.put(*place, table)
        return table


@partial(jax.jit, static_argnums=0)
def _transformed(threat: attacks.Spatial, key: PRNGKey, batch: Batch) -> Images:
    """Each image by a transform of its own."""
    return jax.vmap(partial(_transformed_image, threat))(example_keys(key, batch.id), batch.image)


def _transformed_image(threat: attacks.Spatial, key: PRNGKey, image: Image) -> Image:
    return threat.apply(threat.random(key, image, jnp.float32(1)), image)

"""Which of a model's classes the classes of another data set are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from robust_jax.core.checks import nearest

# Missing classes that an error names before it only counts them.
NAMED = 5
OTHERS = "*"


def map_classes(
    names: Sequence[str], known: Sequence[str], *, renamed: Mapping[str, str | None] = {}, where: str = "the data"
) -> Int[np.ndarray, "m"]:
    """The position among the model's classes of each class of a data set; -1 where it is left out.

    Classes are the same that have the same name. Where the names of the set are numbers throughout, as those of
    ImageNet-V2 and CIFAR-10-C, they are positions among the model's; the other way round where both have as many.

    Args:
        names: of the set's classes.
        known: of the model's classes, in the order of its logits.
        renamed: the model's name for a class of the set that is called otherwise there; None leaves the class out.
            Several may become one, as breeds become the dog of CIFAR-10. ``"*"`` is every class of a name unknown to
            the model that is not in here.
        where: the set, for errors.

    Raises:
        ValueError: naming the classes of the set that the model does not have, with the nearest; or a name in
            ``renamed`` that the set has not.
    """
    for name in renamed:
        if name not in (*names, OTHERS):
            raise ValueError(f"Unknown class {name!r} of {where} in class_maps.{nearest(name, names)}")
    index = {name: i for i, name in enumerate(known)}
    if _numbers(names) and not _numbers(known):
        index |= {str(i): i for i in range(len(known))}
    elif _numbers(known) and not _numbers(names) and len(names) == len(known):
        index |= {name: i for i, name in enumerate(names)}
    wanted = [
        renamed[OTHERS] if OTHERS in renamed and name not in {*index, *renamed} else renamed.get(name, name)
        for name in names
    ]
    missing = [name for name in wanted if name is not None and name not in index]
    if missing:
        shown = ", ".join(map(repr, missing[:NAMED])) + (f" and {len(missing) - NAMED} more" if missing[NAMED:] else "")
        raise ValueError(
            f"{where} has {len(missing)} of {len(names)} classes that the model does not have: {shown}."
            f"{_hint(missing[0], known)}"
        )
    return np.array([-1 if name is None else index[name] for name in wanted], np.int32)


def _hint(name: str, known: Sequence[str]) -> str:
    hint = nearest(name, known)
    # A thousand names would hide what is wrong.
    few = ", ".join(known[:NAMED])
    return hint if len(known) <= 2 * NAMED or "Did you mean" in hint else f" It has {len(known)}, such as {few}."


def _numbers(names: Sequence[str]) -> bool:
    return all(name.isdecimal() for name in names)

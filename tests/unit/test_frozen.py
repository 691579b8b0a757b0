# SPDX-License-Identifier: Apache-2.0
"""``@frozen``. Each test also runs with the standard library's decorator, whose behaviour is wanted."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace
from typing import Any, ClassVar

import pytest

from xdpchain.frozen import frozen

Maker = Callable[[type], Any]


@pytest.fixture(params=[frozen, dataclass(frozen=True, slots=True)], ids=["frozen", "dataclass"])
def maker(request: pytest.FixtureRequest) -> Maker:
    return request.param  # type: ignore[no-any-return]


@frozen
class Ours:
    """At the top of a module, where pickle finds it."""

    one: int
    two: tuple[int, ...] = ()


def point(maker: Maker) -> Any:
    class Point:
        kind: ClassVar[str] = "point"
        x: int
        y: int = 5
        tags: list[str] = field(default_factory=list)
        note: str | None = field(default=None, compare=False, repr=False)

        def moved(self, by: int) -> Any:
            return replace(self, x=self.x + by)

    Point.__qualname__ = "Point"
    return maker(Point)


def test_construction(maker: Maker) -> None:
    made = point(maker)
    one, two = made(1), made(1, y=6, tags=["a"], note="n")
    assert (one.x, one.y, one.tags, one.note, made.kind) == (1, 5, [], None, "point")
    assert (two.x, two.y, two.tags, two.note) == (1, 6, ["a"], "n")
    assert one.tags is not made(1).tags
    assert one.moved(3) == made(4)
    assert asdict(two) == {"x": 1, "y": 6, "tags": ["a"], "note": "n"}
    assert [each.name for each in fields(made)] == ["x", "y", "tags", "note"]
    match two:
        case made(x, y):
            assert (x, y) == (1, 6)
        case _:
            pytest.fail("it does not match by position")


@pytest.mark.parametrize(
    ("values", "named"), [((), {}), ((1, 2, [], None, 3), {}), ((1,), {"z": 3}), ((1,), {"x": 1})]
)
def test_wrong_arguments(maker: Maker, values: tuple[Any, ...], named: dict[str, Any]) -> None:
    made = point(maker)
    for _ in range(2):  # the first call compiles
        with pytest.raises(TypeError, match=r"Point.__init__\(\)"):
            made(*values, **named)


def test_comparison(maker: Maker) -> None:
    made, other = point(maker), point(maker)
    assert made(1) == made(1, note="not compared")
    assert made(1) != made(2)
    assert made(1) != other(1)
    assert made(1) != (1, 5, [])
    with pytest.raises(TypeError, match="unhashable"):
        hash(made(1))  # it has a list


def test_hash(maker: Maker) -> None:
    @maker
    class Pair:
        x: int
        y: str

    @maker
    class Single:
        x: int

    @maker
    class Empty:
        pass

    assert len({Pair(1, "a"), Pair(1, "a"), Pair(1, "b")}) == 2
    assert len({Single(1), Single(1), Single(2)}) == 2
    assert len({Empty(), Empty()}) == 1


def test_text(maker: Maker) -> None:
    assert repr(point(maker)(1, tags=["a"])) == "Point(x=1, y=5, tags=['a'])"


def test_no_assignment(maker: Maker) -> None:
    one = point(maker)(1)
    with pytest.raises(FrozenInstanceError):
        one.x = 2
    with pytest.raises((FrozenInstanceError, TypeError)):  # TypeError: a defect of Python 3.11's decorator
        one.z = 2
    with pytest.raises(FrozenInstanceError):
        del one.x
    assert not hasattr(one, "__dict__")
    assert one.x == 1


def test_own_methods_are_kept(maker: Maker) -> None:
    @maker
    class Own:
        x: int
        double: int = field(init=False, compare=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "double", 2 * self.x)

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return True

    assert (Own(2).double, repr(Own(2)), Own(2) == Own(3)) == (4, "own", True)
    assert hash(Own(2)) == hash(Own(2))


def test_inheritance(maker: Maker) -> None:
    @maker
    class Base:
        x: int
        y: int = 1

    @maker
    class Derived(Base):
        z: int = 2

    assert (Base(1).y, Derived(1, 2).z, Derived(1, z=3).z) == (1, 2, 3)
    assert Derived(1) != Base(1)
    assert len(fields(Derived)) == 3


def test_copies(maker: Maker) -> None:
    one = point(maker)(1, tags=["a"])
    assert copy.copy(one) == one
    deep = copy.deepcopy(one)
    assert deep == one
    assert deep.tags is not one.tags
    assert pickle.loads(pickle.dumps(Ours(1, (2,)))) == Ours(1, (2,))

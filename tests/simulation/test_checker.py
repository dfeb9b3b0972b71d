"""Tests of the checker itself, on small histories with an obvious verdict."""

from __future__ import annotations

from itertools import permutations
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from .checker import Operation, State, is_linearizable

NONE = (0, 0)


def wrote(start: float, end: float, value: int, *elements: int, certain: bool = True) -> Operation:
    writes = tuple((element, value) for element in elements)
    return Operation(who="w", start=start, end=end, writes=writes, certain=certain)


def read(start: float, end: float, *state: int) -> Operation:
    return Operation(who="r", start=start, end=end, reads=state)


def test_a_read_must_return_what_was_written_before() -> None:
    assert is_linearizable(NONE, [wrote(0, 1, 7, 0), read(2, 3, 7, 0)])
    assert not is_linearizable(NONE, [wrote(0, 1, 7, 0), read(2, 3, 0, 0)])


def test_a_lost_update_is_found() -> None:
    assert not is_linearizable(NONE, [wrote(0, 2, 7, 0), wrote(1, 3, 8, 1), read(4, 5, 0, 8)])
    assert is_linearizable(NONE, [wrote(0, 2, 7, 0), wrote(1, 3, 8, 1), read(4, 5, 7, 8)])


def test_a_write_sets_all_its_elements_at_one_moment() -> None:
    history = [wrote(0, 5, 7, 0, 1), read(1, 2, 7, 0)]
    assert not is_linearizable(NONE, history)


def test_a_write_takes_effect_only_once() -> None:
    assert not is_linearizable(NONE, [wrote(0, 9, 7, 0), wrote(2, 3, 8, 0), read(1, 1.5, 7, 0), read(4, 5, 7, 0)])


def test_a_failed_write_may_take_effect_at_any_time_or_never() -> None:
    perhaps = wrote(0, inf, 7, 0, certain=False)
    assert is_linearizable(NONE, [perhaps, read(8, 9, 7, 0)])
    assert is_linearizable(NONE, [perhaps, read(8, 9, 0, 0)])
    assert not is_linearizable(NONE, [perhaps, read(5, 6, 7, 0), read(8, 9, 0, 0)])


def by_permutations(initial: State, history: list[Operation]) -> bool:
    """Linearizability by its definition: try all orders."""

    def explains(order: tuple[Operation, ...]) -> bool:
        state = list(initial)
        for at, operation in enumerate(order):
            if any(other.end < operation.start for other in order[at + 1 :]):
                return False
            if operation.reads is not None and operation.reads != tuple(state):
                return False
            for element, value in operation.writes:
                state[element] = value
        return True

    certain = {at for at, operation in enumerate(history) if operation.certain}
    return any(
        explains(tuple(history[at] for at in order))
        for length in range(len(certain), len(history) + 1)
        for order in permutations(range(len(history)), length)
        if certain <= set(order)
    )


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    start = draw(st.integers(0, 6))
    end: float = start + draw(st.integers(0, 4))
    if draw(st.booleans()):
        return read(start, end, draw(st.integers(0, 2)), draw(st.integers(0, 2)))
    certain = draw(st.booleans())
    return wrote(
        start, end if certain else inf, draw(st.integers(0, 2)), *draw(st.sets(st.integers(0, 1))), certain=certain
    )


@given(st.lists(operations(), max_size=5))
def test_the_checker_agrees_with_the_definition_of_linearizability(history: list[Operation]) -> None:
    assert is_linearizable(NONE, history) == by_permutations(NONE, history)

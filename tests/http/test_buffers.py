"""Receive buffers: the same pages serve again, and never while anybody can still see them."""

import gc
import threading
import weakref

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from zarr_s3_async._http.buffers import Buffers

SIZE = 100_000


def test_memory_serves_again_once_no_reference_is_left():
    """The next body of nearly that length gets the same pages."""
    buffers = Buffers()
    first = buffers.take(SIZE)
    buffer = first.obj
    del first
    assert buffers.take(SIZE + 5_000).obj is buffer


def test_memory_that_a_slice_or_an_array_still_shows_is_not_lent_again():
    """Also where the view that was lent has died; once they are gone, it is."""
    buffers = Buffers()
    for keep in (lambda view: view[10:20], lambda view: np.frombuffer(view, np.uint8)[5:], memoryview):
        view = buffers.take(SIZE)
        buffer, kept = view.obj, keep(view)
        del view
        other = buffers.take(SIZE)
        assert other.obj is not buffer
        del other, kept
        again = [buffers.take(SIZE) for _ in range(2)]
        assert any(view.obj is buffer for view in again)
        del again, buffer


def test_what_is_kept_is_bounded():
    """The oldest go first."""
    buffers = Buffers(limit=4 * SIZE)
    views = [buffers.take(SIZE) for _ in range(20)]
    del views
    assert buffers._kept_bytes <= 4 * SIZE
    assert buffers._kept_bytes == sum(map(len, buffers._candidates))


def test_small_and_huge_bodies_are_left_to_the_allocator():
    """And a body of another size does not get a far too large buffer."""
    buffers = Buffers(limit=10 * SIZE)
    for size in (0, 10, 20 * SIZE):
        assert len(buffers.take(size)) == size
    assert not buffers._candidates
    large = buffers.take(5 * SIZE)
    del large
    assert len(buffers.take(SIZE).obj) < 2 * SIZE


def test_views_may_die_in_any_thread():
    """Decoding threads let go of bodies."""
    buffers = Buffers()

    def use():
        for _ in range(200):
            view = buffers.take(SIZE)
            view[:4] = view[-4:] = b"mine"
            assert view[:4] == view[-4:] == b"mine"

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not buffers._lent


def test_views_may_outlive_the_buffers():
    """A session may be closed before its last body; then nobody keeps the memory."""
    buffers = Buffers()
    gone, view = weakref.ref(buffers), buffers.take(SIZE)
    del buffers
    gc.collect()
    assert gone() is None
    view[:1] = b"x"


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(["take", "drop", "slice"]), st.integers(64_000, 90_000)), max_size=40))
def test_no_two_living_views_share_memory(steps):
    """Whatever is taken, sliced and dropped in whatever order."""
    buffers, alive = Buffers(limit=500_000), []
    for number, (step, size) in enumerate(steps):
        if step == "take":
            view = buffers.take(size)
            view[0] = number
            alive.append((number, view))
        elif alive:
            marked, view = alive.pop(size % len(alive))
            if step == "slice":
                alive.append((marked, view[:50]))
            del view
        assert all(view[0] == marked for marked, view in alive)

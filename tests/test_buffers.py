"""Receive buffers are reused, but never while a view of them exists."""

import gc
import threading
import weakref

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from zarr_s3_async._buffers import Buffers

SIZE = 100_000


def test_memory_is_reused_when_no_view_of_it_is_left():
    """The next body of a similar length gets the same memory."""
    buffers = Buffers()
    first = buffers.take(SIZE)
    buffer = first.obj
    del first
    assert buffers.take(SIZE + 5_000).obj is buffer


def test_memory_used_by_a_slice_or_an_array_is_not_reused():
    """This holds even if the original view was deleted; the memory is reused after the last view is deleted."""
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


def test_the_size_of_kept_memory_is_bounded():
    """The oldest buffers are freed first."""
    buffers = Buffers(limit=4 * SIZE)
    views = [buffers.take(SIZE) for _ in range(20)]
    del views
    assert buffers._kept_bytes <= 4 * SIZE
    assert buffers._kept_bytes == sum(map(len, buffers._candidates))


def test_small_and_huge_bodies_are_left_to_the_allocator():
    """A body of another size does not get a much too large buffer."""
    buffers = Buffers(limit=10 * SIZE)
    for size in (0, 10, 20 * SIZE):
        assert len(buffers.take(size)) == size
    assert not buffers._candidates
    large = buffers.take(5 * SIZE)
    del large
    assert len(buffers.take(SIZE).obj) < 2 * SIZE


def test_views_may_be_deleted_in_any_thread():
    """Decoding threads release bodies."""
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
    """A session may be closed before its last body is released; the memory is then freed."""
    buffers = Buffers()
    gone, view = weakref.ref(buffers), buffers.take(SIZE)
    del buffers
    gc.collect()
    assert gone() is None
    view[:1] = b"x"


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(["take", "drop", "slice"]), st.integers(64_000, 90_000)), max_size=40))
def test_two_existing_views_never_share_memory(steps):
    """Views are allocated, sliced and deleted in any order."""
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

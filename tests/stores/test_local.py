"""LocalStore beyond the conformance suite: files of other programs, invalid keys, errors, leftover files."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from zarr_s3_async.byte_range import Span
from zarr_s3_async.errors import AccessDenied, ConcurrentModification, Conflict, StoreError
from zarr_s3_async.stores.local import LocalStore
from zarr_s3_async.stores.local import files as _local_files
from zarr_s3_async.stores.local import reading as _local_reading

MIB = 2**20


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def store(root) -> LocalStore:
    return LocalStore(root)


async def _data(store: LocalStore, key: str) -> bytes:
    blob = await store.get(key)
    assert blob is not None
    return bytes(blob.data)


async def _version(store: LocalStore, key: str):
    blob = await store.get(key)
    assert blob is not None
    return blob.version


def _files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


# Files on disk


async def test_a_key_is_a_path_below_the_root(store, root):
    await store.put("a/b/c", b"x")
    assert (root / "a/b/c").read_bytes() == b"x"


async def test_puts_and_deletes_leave_no_other_files(store, root):
    for _ in range(3):
        version = await store.put("a/b/c", b"x")
        await store.put("a/b/c", b"y", when=version)
    await store.put("a/new", b"z", when="absent")
    with pytest.raises(Conflict):
        await store.put("a/new", b"z", when="absent")
    with pytest.raises(Conflict):
        await store.put("a/new", b"z", when=version)
    assert _files(root) == ["a", "a/b", "a/b/c", "a/new"]


async def test_a_delete_removes_folders_that_it_empties_but_not_the_root(store, root):
    await store.put("a/b/c/d", b"x")
    await store.put("a/other", b"x")
    await store.delete("a/b/c/d")
    assert _files(root) == ["a", "a/other"]
    await store.delete_many(["a/other"])
    assert _files(root) == []
    assert root.is_dir()


async def test_reading_creates_no_folder(store, root):
    assert await store.get("a/b") is None
    assert await store.list_dir() == await store.list_dir("x")
    assert [entry async for entry in store.list_prefix()] == []
    await store.delete("a/b")
    assert not root.exists()


async def test_unfinished_files_of_killed_processes_are_ignored(store, root):
    await store.put("a/b", b"x")
    (root / "a/.zarr-s3-0123456789abcdef").write_bytes(b"half")
    assert [entry.key async for entry in store.list_prefix()] == ["a/b"]
    assert [entry.key for entry in (await store.list_dir("a")).entries] == ["a/b"]
    with pytest.raises(StoreError):
        await store.get("a/.zarr-s3-0123456789abcdef")


async def test_new_files_have_the_permissions_of_the_umask(store, root):
    await store.put("a", b"x")
    ours = (root / "a").stat().st_mode
    (root / "theirs").write_bytes(b"x")
    assert ours == (root / "theirs").stat().st_mode


@pytest.mark.parametrize("name", ["with space", "per%20cent", "ünïcode", "plain"])
async def test_the_url_of_a_store_opens_the_same_root(tmp_path, name):
    from urllib.parse import unquote, urlsplit

    store = LocalStore(tmp_path / name)
    assert store.url.startswith("file:///")
    assert Path(unquote(urlsplit(store.url).path)) == tmp_path / name == store.root


async def test_a_relative_root_is_resolved_when_the_store_is_created(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = LocalStore("here")
    monkeypatch.chdir("/")
    await store.put("x", b"1")
    assert (tmp_path / "here/x").exists()


async def test_sync_flushes_files_and_folders(root, monkeypatch):
    """With `sync`, the file, its folder and new folders above it are flushed before the put returns."""
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: flushed.append(os.fstat(file).st_ino))
    store = LocalStore(root, sync=True)
    await store.put("a/b", b"x")
    paths = [root / "a/b", root / "a", root, root.parent]
    assert {path.stat().st_ino for path in paths} <= set(flushed)
    flushed.clear()
    await store.put("a/b", b"y")
    assert set(flushed) == {path.stat().st_ino for path in paths[:2]}


# Keys


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/abs",
        "a//b",
        "a/",
        "..",
        "../x",
        "a/../b",
        ".",
        "a/./b",
        "nul\0",
        "lone\ud800",
        ".zarr-s3-x",
        "a/.zarr-s3-/b",
    ],
)
async def test_a_key_that_is_not_a_relative_path_is_refused(store, root, key):
    root.mkdir()
    (root.parent / "x").write_bytes(b"outside")
    for call in (store.get(key), store.put(key, b"x"), store.delete(key), store.delete_many(["fine", key])):
        with pytest.raises(StoreError, match="cannot be a file"):
            await call
    assert _files(root) == []


@pytest.mark.parametrize("prefix", ["../", "a/../", "/abs/", "nul\0/", "./", "a//b"])
async def test_a_prefix_that_no_key_can_have_lists_nothing(store, root, prefix):
    (root / "a").mkdir(parents=True)
    (root.parent / "outside").write_bytes(b"")
    assert [entry async for entry in store.list_prefix(prefix)] == []
    listing = await store.list_dir(prefix)
    assert (listing.dirs, listing.entries) == ((), ())


async def test_a_folder_is_not_an_object(store):
    await store.put("a/b", b"x")
    assert await store.get("a") is None
    await store.delete("a")
    assert await _data(store, "a/b") == b"x"
    with pytest.raises(Conflict):
        await store.delete("a", when=await _version(store, "a/b"))


async def test_a_key_below_an_object_is_refused(store):
    await store.put("a", b"x")
    assert await store.get("a/b") is None
    assert await store.get("a/b", range=Span(0, 1)) is None
    await store.delete("a/b")
    for when in ("always", "absent"):
        with pytest.raises(StoreError, match="a part of the path is an object") as caught:
            await store.put("a/b", b"y", when=when)
        assert caught.value.key == "a/b"
    assert await _data(store, "a") == b"x"


@pytest.mark.parametrize("when", ["always", "absent"])
async def test_an_object_cannot_replace_a_folder(store, when):
    await store.put("a/b", b"x")
    with pytest.raises(StoreError, match="it is a folder") as caught:
        await store.put("a", b"y", when=when)
    assert caught.value.code == "EISDIR"
    assert await _data(store, "a/b") == b"x"


# Errors of the operating system


async def test_a_refused_access_is_not_absence(store, root, monkeypatch):
    await store.put("a", b"x")
    real = os.open

    def refuse(path, flags, *args, **kwargs):
        if str(path).endswith(("/a", "root")) or str(path).startswith(".zarr-s3-"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    for call in (store.get("a"), store.put("a", b"y"), store.delete("a")):
        with pytest.raises(AccessDenied, match="Permission denied") as caught:
            await call
        assert caught.value.code == "EACCES"
        assert caught.value.key == "a"


@pytest.mark.skipif(os.geteuid() == 0, reason="root has all permissions")
async def test_a_folder_without_read_permission_is_an_error(store, root):
    await store.put("a/b", b"x")
    (root / "a").chmod(0)
    try:
        with pytest.raises(AccessDenied):
            await store.get("a/b")
        with pytest.raises(AccessDenied):
            await anext(store.list_prefix())
    finally:
        (root / "a").chmod(0o700)


async def test_a_full_disk_leaves_the_old_object_and_no_other_file(store, root, monkeypatch):
    await store.put("a", b"old")

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match="No space left") as caught:
        await store.put("a", b"new")
    monkeypatch.undo()
    assert caught.value.code == "ENOSPC"
    assert await _data(store, "a") == b"old"
    assert _files(root) == ["a"]


async def test_a_named_pipe_is_an_error(store, root):
    root.mkdir()
    os.mkfifo(root / "pipe")
    with pytest.raises(StoreError, match="neither a file nor a folder"):
        await store.get("pipe")
    assert [entry async for entry in store.list_prefix()] == []


async def test_a_long_name_is_a_store_error(store):
    with pytest.raises(StoreError) as caught:
        await store.put("n" * 300, b"x")
    assert caught.value.code == "ENAMETOOLONG"


# Versions, and other programs


async def test_versions_differ_on_file_systems_with_coarse_times(store, root, monkeypatch):
    """With a frozen clock, equal sizes and reused inodes, the store's own timestamps distinguish versions."""
    monkeypatch.setattr(_local_files.time, "time_ns", lambda: 1_600_000_000_000_000_000)
    seen = set()
    for number in range(200):
        await store.put("counter", f"{number:04}".encode())
        state = (root / "counter").stat()
        seen.add((state.st_mtime_ns, state.st_size))
    assert len(seen) == 200


async def test_no_version_is_repeated_if_the_clock_goes_back(store, root, monkeypatch):
    times = iter([2_000, 1_000, 3_000, 500])
    monkeypatch.setattr(_local_files.time, "time_ns", lambda: 10**18 + next(times))
    stamps = []
    for _ in range(4):
        await store.put("x", b"same")
        stamps.append((root / "x").stat().st_mtime_ns)
    assert stamps == sorted(set(stamps))


async def test_timestamps_are_raised_by_the_resolution_of_the_file_system(store, root, monkeypatch):
    """On a file system with a resolution of one second, a timestamp one nanosecond later would be the same one."""
    real = os.utime
    monkeypatch.setattr(
        os, "utime", lambda file, ns: real(file, ns=tuple(t // 1_000_000_000 * 1_000_000_000 for t in ns))
    )
    monkeypatch.setattr(_local_files.time, "time_ns", lambda: 1_600_000_000_500_000_000)
    stamps = []
    for _ in range(4):
        await store.put("x", b"same")
        stamps.append((root / "x").stat().st_mtime_ns)
    assert stamps == sorted(set(stamps))


async def test_a_put_of_another_program_is_a_new_version(store, root):
    version = await store.put("x", b"ours")
    (root / "theirs").write_bytes(b"them")
    (root / "theirs").replace(root / "x")
    assert await _data(store, "x") == b"them"
    with pytest.raises(Conflict):
        await store.put("x", b"more", when=version)
    with pytest.raises(Conflict):
        await store.get("x", version=version)


async def test_a_rewrite_in_place_that_restores_the_time_is_a_new_version(store, root):
    """As with `rsync --inplace --times`: same inode, size and modification time, but other bytes."""
    version = await store.put("x", b"ours")
    state = (root / "x").stat()
    await asyncio.sleep(0.02)  # a tick of the coarsest kernel clock
    with (root / "x").open("r+b") as file:
        file.write(b"them")
    os.utime(root / "x", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (root / "x").stat().st_mtime_ns == state.st_mtime_ns
    with pytest.raises(Conflict):
        await store.put("x", b"more", when=version)


async def test_a_file_that_another_program_creates_meanwhile_is_not_overwritten(store, root, monkeypatch):
    """`absent` holds against programs that take no lock: the check and the rename are one atomic step."""
    real = os.utime

    def write_as_another_program(*args, **kwargs):
        (root / "x").write_bytes(b"theirs")  # after the precondition was checked, before the file is renamed
        return real(*args, **kwargs)

    monkeypatch.setattr(os, "utime", write_as_another_program)
    with pytest.raises(Conflict):
        await store.put("x", b"ours", when="absent")
    assert (root / "x").read_bytes() == b"theirs"
    assert _files(root) == ["x"]


async def test_the_condition_absent_works_without_hard_links(store, monkeypatch):
    def no_links(*_args, **_kwargs):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    await store.put("x", b"1", when="absent")
    with pytest.raises(Conflict):
        await store.put("x", b"2", when="absent")
    assert await _data(store, "x") == b"1"


async def test_a_read_torn_by_a_rewrite_in_place_is_read_again(store, root, monkeypatch):
    await store.put("x", b"a" * 100)
    real, torn = os.pread, []

    def pread(file, count, at):
        if not torn:
            torn.append(True)
            (root / "x").write_bytes(b"b" * 50)
        return real(file, count, at)

    monkeypatch.setattr(_local_reading.os, "pread", pread)
    assert await _data(store, "x") == b"b" * 50


async def test_a_file_that_is_always_rewritten_is_an_error(store, root, monkeypatch):
    await store.put("x", b"a" * 100)
    real = os.pread

    def pread(file, count, at):
        data = real(file, count, at)
        with (root / "x").open("ab") as other:
            other.write(b"more")
        return data

    monkeypatch.setattr(_local_reading.os, "pread", pread)
    with pytest.raises(ConcurrentModification, match="rewritten in place"):
        await store.get("x")


async def test_a_file_truncated_during_a_big_read_into_a_sink_is_read_again(store, root, monkeypatch):
    await store.put("x", b"a" * MIB)
    sizes = []
    cut = []
    real = os.preadv

    def preadv(file, buffers, at):
        if not cut:
            cut.append(True)
            os.truncate(root / "x", MIB // 2)
        return real(file, buffers, at)

    def sink(size: int) -> memoryview:
        sizes.append(size)
        return memoryview(bytearray(size))

    monkeypatch.setattr(_local_reading.os, "preadv", preadv)
    blob = await store.get("x", sink=sink)
    assert blob is not None
    assert sizes == [MIB, MIB // 2]
    assert bytes(blob.data) == b"a" * (MIB // 2)


async def test_files_of_other_programs_are_objects(store, root):
    (root / "a").mkdir(parents=True)
    (root / "a/theirs").write_bytes(b"x")
    (root / "empty/folder").mkdir(parents=True)
    assert await _data(store, "a/theirs") == b"x"
    assert [entry.key async for entry in store.list_prefix()] == ["a/theirs"]
    assert (await store.list_dir()).dirs == ("a",), "a folder without objects is not listed"
    os.close(os.open(os.fsencode(root) + b"/not-utf8-\xff", os.O_CREAT))
    assert [entry.key async for entry in store.list_prefix()] == ["a/theirs"]


async def test_symbolic_links_are_followed_and_circles_end(store, root, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x").write_bytes(b"1")
    (root / "a").mkdir(parents=True)
    (root / "a/there").symlink_to(elsewhere)
    (root / "a/back").symlink_to(root)
    (root / "a/dangling").symlink_to(tmp_path / "nothing")
    assert await _data(store, "a/there/x") == b"1"
    assert [entry.key async for entry in store.list_prefix()] == ["a/there/x"]


# Threads


async def test_the_sink_is_called_on_the_event_loop(store):
    for size in (10, MIB):
        await store.put("x", bytes(size))
        threads = []

        def sink(length: int, threads=threads) -> memoryview:
            threads.append(threading.get_ident())
            return memoryview(bytearray(length))

        await store.get("x", sink=sink)
        assert threads == [threading.get_ident()]


def _open_files() -> int:
    """Number of open files; 0 if the system does not report it."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


async def test_a_cancelled_read_closes_its_file(store):
    await store.put("x", bytes(MIB))
    before = _open_files()
    for cycles in range(30):
        task = asyncio.ensure_future(store.get("x", sink=lambda n: memoryview(bytearray(n))))
        for _ in range(cycles % 6):
            await asyncio.sleep(0.0002)
        task.cancel()
        await asyncio.wait([task])
    assert _open_files() <= before


async def test_a_cancelled_page_of_a_listing_is_not_lost(store):
    for number in range(5):
        await store.put(str(number), b"")
    listing = store.list_prefix()
    task = asyncio.ensure_future(anext(listing))
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert [entry.key async for entry in listing] == list("01234")


async def test_a_folder_removed_while_it_is_created_is_created_again(store, root, monkeypatch):
    """Another process creates the folder just before us and removes it just after: mkdir fails, then it is missing."""
    real, met = os.mkdir, []

    def mkdir(path, *args, **kwargs):
        if str(path).endswith("/a") and not met:
            met.append(path)
            raise FileExistsError(17, "File exists", str(path))
        real(path, *args, **kwargs)

    root.mkdir()
    monkeypatch.setattr(os, "mkdir", mkdir)
    await store.put("a/b", b"x")
    assert met
    assert await _data(store, "a/b") == b"x"

"""The files below a folder, in the order of their keys, one folder in memory at a time."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Self

from ..._concurrency.blocking import run_blocking
from ...errors import StoreError
from ..base import Entry, Listing
from .files import TEMPORARY, checked_key, translated, version_of

_PAGE = 1000


class _Name(NamedTuple):
    """One name in a folder.

    Sorted by `order`, the keys below are sorted: those of folder `a` follow key `a.b`.
    """

    order: str
    name: str
    is_folder: bool


def walk(root: str, prefix: str) -> Iterator[Entry]:
    """Every object whose key starts with `prefix`, sorted by key."""
    folder, _, start = prefix.rpartition("/")
    if folder and not _possible(folder):
        return
    yield from _below(*_at(root, folder), start)


def one_level(root: str, folder: str) -> Listing:
    """The folders and the objects directly in `folder` ("" is the root). A folder without objects is none."""
    if folder and not _possible(folder):
        return Listing((), ())
    path, base = _at(root, folder)
    dirs: list[str] = []
    entries: list[Entry] = []
    for _, name, is_folder in _names(path, ""):
        if not is_folder:
            entries += filter(None, [_entry(path, base, name)])
        elif next(_below(f"{path}/{name}", "", ""), None) is not None:
            dirs.append(base + name)
    return Listing(tuple(sorted(dirs)), tuple(entries))


def _at(root: str, folder: str) -> tuple[str, str]:
    """The path of a folder, and how the keys below it begin."""
    return (f"{root}/{folder}", folder + "/") if folder else (root, "")


def _below(path: str, base: str, start: str) -> Iterator[Entry]:
    for _, name, is_folder in _names(path, start):
        if is_folder:
            yield from _below(f"{path}/{name}", f"{base}{name}/", "")
        elif (entry := _entry(path, base, name)) is not None:
            yield entry


def _possible(folder: str) -> bool:
    try:
        checked_key(folder)
    except StoreError:
        return False
    return True


def _names(path: str, start: str) -> list[_Name]:
    """What a folder holds, but for unfinished files and for names that are not UTF-8: no key spells those."""
    try:
        with os.scandir(path) as found:
            names = [_named(entry) for entry in found if entry.name.startswith(start)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise translated(error, f"cannot list {path}", None) from error
    return sorted(name for name in names if not name.name.startswith(TEMPORARY) and _is_text(name.name))


def _named(entry: os.DirEntry[str]) -> _Name:
    is_folder = entry.is_dir() and not (entry.is_symlink() and _leads_back(entry.path))
    return _Name(entry.name + "/" if is_folder else entry.name, entry.name, is_folder)


def _leads_back(link: str) -> bool:
    """True for a symbolic link to a folder that holds the link: following it would never end."""
    target, here = Path(link).resolve(), Path(link).parent.resolve()
    return target == here or target in here.parents


def _is_text(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _entry(path: str, base: str, name: str) -> Entry | None:
    """The object, or None where it went meanwhile or is no file."""
    try:
        state = os.stat(f"{path}/{name}")  # noqa: PTH116  # a Path per entry costs more than the call
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise translated(error, f"cannot list {path}/{name}", base + name) from error
    if not stat.S_ISREG(state.st_mode):
        return None
    return Entry(base + name, state.st_size, version_of(state), state.st_mtime)


class LocalEntries:
    """The async iterator of `LocalStore.list_prefix`: a page of entries per hop into a thread."""

    __slots__ = ("_page", "_walk")

    def __init__(self, root: str, prefix: str) -> None:
        self._walk = walk(root, prefix)
        self._page: Iterator[Entry] = iter(())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry:
        entry = next(self._page, None)
        if entry is None:
            await run_blocking(self._turn)
            entry = next(self._page, None)
        if entry is None:
            raise StopAsyncIteration
        return entry

    async def next_page(self) -> list[Entry]:
        """What is left of the current page, or the next one; empty at the end."""
        if not (left := list(self._page)):
            await run_blocking(self._turn)
            left = list(self._page)
        return left

    def _turn(self) -> None:
        # Kept by the thread itself: a cancelled call must not lose the page.
        self._page = iter(list(islice(self._walk, _PAGE)))

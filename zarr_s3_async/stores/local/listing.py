"""List the files below a folder in key order, with one folder in memory at a time."""

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

    Sorting by `order` sorts the keys: those in folder `a` come after key `a.b`.
    """

    order: str
    name: str
    is_folder: bool


def walk(root: str, prefix: str) -> Iterator[Entry]:
    """All objects whose key starts with `prefix`, sorted by key."""
    folder, _, start = prefix.rpartition("/")
    if folder and not _possible(folder):
        return
    yield from _below(*_at(root, folder), start)


def one_level(root: str, folder: str) -> Listing:
    """Folders and objects directly in `folder` ("" is the root). A folder without objects is omitted."""
    if folder and not _possible(folder):
        return Listing((), ())
    path, base = _at(root, folder)
    dirs: list[str] = []
    entries: list[Entry] = []
    for _, name, is_folder in _names(path, ""):
        if not is_folder:
            entries += filter(None, [_entry(path, base, name)])
        # As on S3, a folder exists only if an object is below it.
        elif next(_below(f"{path}/{name}", "", ""), None) is not None:
            dirs.append(base + name)
    return Listing(tuple(sorted(dirs)), tuple(entries))


def _at(root: str, folder: str) -> tuple[str, str]:
    """The path of a folder, and the prefix of the keys below it."""
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
    """Names in a folder, without temporary files and names that are not UTF-8, which cannot be keys."""
    try:
        with os.scandir(path) as found:
            names = [_named(entry) for entry in found if entry.name.startswith(start)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise translated(error, f"cannot list {path}", None) from error
    return sorted(name for name in names if not name.name.startswith(TEMPORARY) and _is_text(name.name))


def _named(entry: os.DirEntry[str]) -> _Name:
    # A link to a folder above would have no end; it is listed as what it is, not as a folder.
    is_folder = entry.is_dir() and not (entry.is_symlink() and _leads_back(entry.path))
    return _Name(entry.name + "/" if is_folder else entry.name, entry.name, is_folder)


def _leads_back(link: str) -> bool:
    """True for a symbolic link to a folder above the link: following it would recurse for ever."""
    target, here = Path(link).resolve(), Path(link).parent.resolve()
    return target == here or target in here.parents


def _is_text(name: str) -> bool:
    # Python shows bytes of a name that are not UTF-8 as surrogates; such a name is no key of any other store.
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _entry(path: str, base: str, name: str) -> Entry | None:
    """The object; None if it was deleted meanwhile or is not a file."""
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
    """The async iterator of `LocalStore.list_prefix`: one call in a thread per page of entries."""

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
        """The rest of the current page, or the next page; empty at the end."""
        if not (left := list(self._page)):
            await run_blocking(self._turn)
            left = list(self._page)
        return left

    def _turn(self) -> None:
        # Stored by the thread: a page must not be lost if the call is cancelled.
        self._page = iter(list(islice(self._walk, _PAGE)))

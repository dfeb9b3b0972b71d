"""The conformance suite detects defects: each broken store fails exactly the checks listed for it."""

# ruff: noqa: A001, A002  # `range` is the protocol's name

import asyncio
import itertools

import pytest

from zarr_s3_async._types import Version
from zarr_s3_async.byte_range import Offset, Span, Suffix
from zarr_s3_async.errors import Conflict
from zarr_s3_async.stores.base import Blob, Entry, Listing, StoreRef
from zarr_s3_async.stores.memory import MemoryStore
from zarr_s3_async.testing import CHECKS, DEVIATIONS, check_name, run_conformance


class Wrapped:
    """A MemoryStore; subclasses break one method."""

    def __init__(self) -> None:
        self.inner = MemoryStore()

    @property
    def url(self) -> str:
        return self.inner.url

    async def get(self, key, **how):
        return await self.inner.get(key, **how)

    async def put(self, key, data, **how):
        return await self.inner.put(key, data, **how)

    async def delete(self, key, **how):
        await self.inner.delete(key, **how)

    async def delete_many(self, keys):
        await self.inner.delete_many(keys)

    def list_prefix(self, prefix=""):
        return self.inner.list_prefix(prefix)

    async def list_dir(self, prefix=""):
        return await self.inner.list_dir(prefix)


class RangesIgnored(Wrapped):
    async def get(self, key, *, range=None, **how):
        return await self.inner.get(key, **how)


class SuffixesAreSpans(Wrapped):
    async def get(self, key, *, range=None, **how):
        range = Span(0, range.length) if isinstance(range, Suffix) and range.length > 0 else range
        return await self.inner.get(key, range=range, **how)


class VersionsIgnored(Wrapped):
    async def get(self, key, *, version=None, **how):
        return await self.inner.get(key, **how)


class SinksIgnored(Wrapped):
    async def get(self, key, *, sink=None, **how):
        return await self.inner.get(key, **how)


class SinkCalledForAbsent(Wrapped):
    async def get(self, key, *, sink=None, **how):
        blob = await self.inner.get(key, sink=sink, **how)
        if blob is None and sink is not None:
            sink(0)
        return blob


class EmptyIsAbsent(Wrapped):
    async def get(self, key, **how):
        blob = await self.inner.get(key, **how)
        return blob if blob is not None and blob.size else None


class SizeOfTheRange(Wrapped):
    async def get(self, key, **how):
        blob = await self.inner.get(key, **how)
        return blob and Blob(blob.data, blob.version, memoryview(blob.data).nbytes)


class EmptyRangesAreAbsent(Wrapped):
    async def get(self, key, *, range=None, **how):
        blob = await self.inner.get(key, range=range, **how)
        return blob if range is None or blob is None or len(blob.data) else None


class OffsetsAreSuffixes(Wrapped):
    async def get(self, key, *, range=None, **how):
        range = Suffix(range.start) if isinstance(range, Offset) and range.start >= 0 else range
        return await self.inner.get(key, range=range, **how)


class TimesInMilliseconds(Wrapped):
    async def get(self, key, **how):
        blob = await self.inner.get(key, **how)
        return blob and Blob(blob.data, blob.version, blob.size, blob.modified * 1000)


class PagesFromAfterOn(Wrapped):
    async def list_pages(self, prefix="", *, after=""):
        async for page in self.inner.list_pages(prefix):
            yield [entry for entry in page if entry.key >= after]


class StatFindsFolders(Wrapped):
    async def stat(self, key):
        blob = await self.inner.get(key)
        if blob is not None:
            return Entry(key, blob.size, blob.version)
        folder = (await self.inner.list_dir(key)).entries
        return folder[0] if folder else None


class VersionsOfRangesIgnored(Wrapped):
    """Only whole reads respect the requested version."""

    async def get(self, key, *, range=None, version=None, **how):
        return await self.inner.get(key, range=range, version=None if range is not None else version, **how)


class ReferenceWithAKey(Wrapped):
    @property
    def ref(self):
        return StoreRef(url=self.url, config={"secret_access_key": "s"})


class BadRangesAccepted(Wrapped):
    async def get(self, key, *, range=None, **how):
        try:
            return await self.inner.get(key, range=range, **how)
        except ValueError:
            return await self.inner.get(key, **how)


class PreconditionsIgnored(Wrapped):
    """Some S3-compatible servers do this."""

    async def put(self, key, data, *, when="always"):
        return await self.inner.put(key, data)

    async def delete(self, key, *, when="always"):
        await self.inner.delete(key)


class CheckedTooEarly(Wrapped):
    """Time passes between the check of the precondition and the write."""

    async def put(self, key, data, *, when="always"):
        if when != "always":
            blob = await self.inner.get(key)
            await asyncio.sleep(0)
            if (when == "absent") != (blob is None) or (blob is not None and when not in ("absent", blob.version)):
                raise Conflict("no")
        return await self.inner.put(key, data)


class AbsentMatches(Wrapped):
    async def put(self, key, data, *, when="always"):
        if when not in ("always", "absent") and await self.inner.get(key) is None:
            when = "always"
        return await self.inner.put(key, data, when=when)


class VersionsBySize(Wrapped):
    def _named(self, blob):
        return blob and Blob(blob.data, Version(str(blob.size)), blob.size)

    async def get(self, key, *, version=None, **how):
        return self._named(await self.inner.get(key, **how))

    async def put(self, key, data, **how):
        await self.inner.put(key, data)
        return Version(str(memoryview(data).nbytes))


class DeleteOfAbsentFails(Wrapped):
    async def delete(self, key, **how):
        if await self.inner.get(key) is None:
            raise Conflict("absent")
        await self.inner.delete(key, **how)


class DeletesThousand(Wrapped):
    async def delete_many(self, keys):
        await self.inner.delete_many(itertools.islice(keys, 1000))


class BufferKept(Wrapped):
    """Remembers the caller's buffer instead of its bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.buffers = {}

    async def put(self, key, data, **how):
        version = await self.inner.put(key, data, **how)
        self.buffers[key] = data
        return version

    async def get(self, key, **how):
        if key in self.buffers and not how and await self.inner.get(key) is not None:
            blob = await self.inner.get(key)
            return Blob(bytes(self.buffers[key]), blob.version, blob.size)
        return await self.inner.get(key, **how)


class _Cut:
    def __init__(self, entries, limit):
        self.entries, self.left = entries, limit

    def __aiter__(self):
        return self

    async def __anext__(self):
        self.left -= 1
        if self.left < 0:
            raise StopAsyncIteration
        return await anext(self.entries)


class OnePageListed(Wrapped):
    def list_prefix(self, prefix=""):
        return _Cut(self.inner.list_prefix(prefix), 1000)


class ListsFolders(Wrapped):
    """Treats a prefix as a folder."""

    def list_prefix(self, prefix=""):
        return self.inner.list_prefix(prefix and prefix.rstrip("/") + "/")


class UrlKeys(Wrapped):
    """Decodes keys as if they were URLs."""

    def _key(self, key):
        from urllib.parse import unquote_plus

        return unquote_plus(key)

    async def get(self, key, **how):
        return await self.inner.get(self._key(key), **how)

    async def put(self, key, data, **how):
        return await self.inner.put(self._key(key), data, **how)


class LevelsAreDeep(Wrapped):
    async def list_dir(self, prefix=""):
        listing = await self.inner.list_dir(prefix)
        return Listing(tuple(f"{name}/" for name in listing.dirs), listing.entries)


class LevelSizesAreWrong(Wrapped):
    async def list_dir(self, prefix=""):
        listing = await self.inner.list_dir(prefix)
        return Listing(listing.dirs, tuple(Entry(e.key, 0, e.version) for e in listing.entries))


class Torn(Wrapped):
    """Writes in place, in two steps."""

    async def put(self, key, data, **how):
        data = bytes(data)
        if len(data) > 100_000:
            await self.inner.put(key, data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
            how = {}
        return await self.inner.put(key, data, **how)


class WritesAfterLeaving(Wrapped):
    """Fills the sink's memory later, like a thread that is not awaited."""

    async def get(self, key, *, sink=None, **how):
        blob = await self.inner.get(key, **how)
        if blob is None or sink is None:
            return blob
        memory = sink(memoryview(blob.data).nbytes)
        done = asyncio.get_running_loop().create_future()

        def fill() -> None:
            memory[:] = blob.data
            if not done.done():
                done.set_result(None)

        asyncio.get_running_loop().call_later(0.01, fill)
        await done
        return Blob(memory, blob.version, blob.size)


_BROKEN = {
    RangesIgnored: {"spans", "suffixes"},
    SuffixesAreSpans: {"suffixes"},
    VersionsIgnored: {"a_pinned_read_of_another_version_is_a_conflict"},
    SinksIgnored: {"a_sink_is_asked_once_for_the_exact_length", "a_sink_receives_a_range"},
    SinkCalledForAbsent: {"an_absent_object_is_none"},
    EmptyIsAbsent: {"an_empty_object_is_present"},
    SizeOfTheRange: {"spans", "ranges_of_one_version"},
    EmptyRangesAreAbsent: {"empty_ranges"},
    OffsetsAreSuffixes: {"open_ended_ranges", "ranges_of_one_version"},
    TimesInMilliseconds: {"times_are_those_of_the_last_put"},
    PagesFromAfterOn: {"pages"},
    StatFindsFolders: {"stat"},
    VersionsOfRangesIgnored: {"a_pinned_read_of_another_version_is_a_conflict"},
    ReferenceWithAKey: {"a_reference_says_where"},
    BadRangesAccepted: {"impossible_ranges_are_refused"},
    PreconditionsIgnored: {"put_absent", "put_match", "conditional_delete", "one_of_many_absent_puts_wins"},
    CheckedTooEarly: {
        "one_of_many_absent_puts_wins",
        "one_of_many_matching_puts_wins",
        "no_increment_is_lost",
    },
    AbsentMatches: {"put_match_of_an_absent_object_is_a_conflict"},
    VersionsBySize: {"versions_change_with_the_content"},
    DeleteOfAbsentFails: {"delete"},
    DeletesThousand: {"many_keys_are_listed_and_deleted"},
    BufferKept: {"the_callers_buffer_is_its_own_again"},
    OnePageListed: {"many_keys_are_listed_and_deleted"},
    ListsFolders: {"a_prefix_is_a_plain_string"},
    UrlKeys: {"odd_keys"},
    LevelsAreDeep: {"one_level"},
    LevelSizesAreWrong: {"one_level"},
    Torn: {"readers_see_old_or_new", "a_cancelled_put_is_old_or_new"},
    WritesAfterLeaving: {"a_get_cancelled_in_its_body_writes_no_more"},
}


@pytest.mark.parametrize("broken", _BROKEN, ids=lambda cls: cls.__name__)
async def test_a_broken_store_fails(broken):
    named = {check_name(check): check for check in CHECKS}
    expected = _BROKEN[broken]
    report = await run_conformance(broken(), [named[name] for name in sorted(expected)])
    assert {name for name, _ in report.failed} == expected, str(report)


async def test_a_good_store_passes_and_the_report_shows_it():
    report = await run_conformance(MemoryStore(), CHECKS[:3])
    assert report.ok
    assert report.passed == tuple(map(check_name, CHECKS[:3]))
    assert str(report) == "3 checks passed, 0 failed"


async def test_a_failed_check_stops_no_other_and_shows_its_traceback():
    report = await run_conformance(EmptyIsAbsent(), CHECKS[:6])
    assert not report.ok
    assert len(report.passed) + len(report.failed) == 6
    assert "AssertionError" in str(report)


def test_checks_have_unique_names():
    assert len({check_name(check) for check in CHECKS}) == len(CHECKS)


def test_deviations_name_existing_checks():
    assert frozenset().union(*DEVIATIONS.values()) <= set(map(check_name, CHECKS))

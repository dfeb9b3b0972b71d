"""What the folders on the way are: arrays, groups, nodes whose documents do not read, or nobody's.

Documents are read anew, each node's own. What consolidated metadata says of it is held against them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from .._concurrency.workers import gather_all
from .._engine.nodes import join
from .._engine.runtime import Runtime
from .._model import formats
from .._model.metadata import ArrayMeta, GroupMeta, differences
from .._model.names import MAX_KEY_BYTES, problem_of
from .._types import JSON
from ..errors import (
    BucketNotFound,
    CredentialsExpired,
    CredentialsNotFound,
    MetadataError,
    StoreError,
    UnsupportedFeature,
    WrongRegion,
    ZarrS3Error,
)
from ..stores.base import Blob
from .objects import objects_of
from .places import Cost, Place, Seen, Tally
from .report import Finding, FindingKind

Format = Literal[2, 3]

FATAL = (BucketNotFound, CredentialsNotFound, CredentialsExpired, WrongRegion)
"""Failures of the store as a whole: to go on would only repeat them for every object."""


class Nodes:
    """Finds the nodes below one root, and keeps a tally of each."""

    __slots__ = ("_most", "_runtime", "cost", "tallies")

    def __init__(self, runtime: Runtime, most: int) -> None:
        self._runtime = runtime
        self._most = most
        self.cost = Cost()
        self.tallies: list[Tally] = []

    def url(self, path: str) -> str:
        """Where a path is."""
        return f"{self._runtime.store.url}/{path}".rstrip("/")

    async def look(self, path: str, above: Place) -> Place:
        """What the folder at `path` is, which lies directly in the place `above`."""
        name = path.rpartition("/")[2]
        descends = False
        if problem_of(name) is None and len(join(path, formats.NODE_V3).encode()) <= MAX_KEY_BYTES:
            place = await self.node_at(path, above, (2, 3) if above.tally.zarr_format == 2 else (3, 2))
            if place is not None:
                return place
            # An array that does not read may have a folder per row of chunks: no need to look into each.
            descends = above.tally.kind != "unreadable" or not (name == "c" or name.isdecimal())
        return Place(path, above, above.tally, is_node=False, descends=descends)

    async def node_at(self, path: str, above: Place | None, which: Sequence[Format]) -> Place | None:
        """The node there, readable or not, of the first of these formats; None where there is none.

        Raises:
            StoreError: The store as a whole fails, or cannot read the root.
        """
        try:
            found = await self.load(path, which)
        except (MetadataError, UnsupportedFeature) as error:
            return self._unreadable(path, above, "metadata", error)
        except StoreError as error:
            if above is None or isinstance(error, FATAL):
                raise
            return self._unreadable(path, above, "unreadable", error)
        if found is None:
            return None
        meta, documents = found
        for blob in documents.values():
            self.cost.read(len(blob.data))
        place = self._place(path, above)
        place.documents = frozenset(documents)
        place.tally.zarr_format = meta.zarr_format
        if isinstance(meta, ArrayMeta):
            self._lay_out(place, meta)
        else:
            place.tally.kind = "group"
            self._claim(place, meta, documents)
        self._compare(place, meta)
        return place

    async def load(self, path: str, which: Sequence[Format]) -> tuple[ArrayMeta | GroupMeta, dict[str, Blob]] | None:
        """The node, and the documents by file name that say what it is.

        Raises:
            MetadataError, UnsupportedFeature: They do not read.
        """
        for zarr_format in which:
            names = formats.document_names(zarr_format)
            if zarr_format == 2:
                names = (*names, formats.CONSOLIDATED_V2)
            blobs = await gather_all(*(self._runtime.store.get(join(path, name)) for name in names))
            found = {name: blob for name, blob in zip(names, blobs, strict=True) if blob is not None}
            documents = {name: blob.data for name, blob in found.items()}
            meta = formats.parse_node(documents, url=self.url(path), zarr_format=zarr_format)
            if meta is not None:
                carried = () if isinstance(meta, ArrayMeta) else (formats.CONSOLIDATED_V2,)
                return meta, {name: found[name] for name in (*meta.documents, *carried) if name in found}
        return None

    def _place(self, path: str, above: Place | None) -> Place:
        place = Place(path, above, Tally(path, self.cost, self._most), is_node=True, descends=True)
        self.tallies.append(place.tally)
        return place

    def _unreadable(self, path: str, above: Place | None, kind: FindingKind, error: ZarrS3Error) -> Place:
        place = self._place(path, above)
        place.tally.add(Finding(kind=kind, key=path, what=str(error), error=type(error).__name__))
        for claims, name in place.claims_on():
            claims.pop(name, None)
        return place

    def _lay_out(self, place: Place, meta: ArrayMeta) -> None:
        place.descends = False
        place.tally.kind, place.tally.meta, place.seen = "array", meta, Seen(meta.grid_shape)
        try:
            place.objects = objects_of(self._runtime, meta)
        except (MetadataError, UnsupportedFeature) as error:
            contradiction(place, meta.documents[0], f"its chunks cannot be decoded: {error}", error)

    # Consolidated metadata

    def _claim(self, place: Place, meta: GroupMeta, documents: Mapping[str, Blob]) -> None:
        """Note what the group says of the nodes below, and of itself."""
        if meta.consolidated is None:
            return
        place.claims = dict(meta.consolidated)
        if formats.CONSOLIDATED_V2 not in documents:
            return
        own = formats.own_consolidated(documents[formats.CONSOLIDATED_V2].data, self.url(place.path))
        if formats.GROUP_V2 in own:
            place.claims[""] = own
        if formats.GROUP_V2 not in documents:
            contradiction(place, formats.CONSOLIDATED_V2, f"it describes a group that has no {formats.GROUP_V2}")

    def _compare(self, place: Place, meta: ArrayMeta | GroupMeta) -> None:
        """Hold the node against what it, and the groups above, say of it."""
        for claims, name in place.claims_on():
            if name in claims:
                self._hold_against(place, meta, claims.pop(name))
            elif name:
                contradiction(place, meta.documents[0], "the consolidated metadata of a group above does not have it")

    def _hold_against(self, place: Place, meta: ArrayMeta | GroupMeta, said: Mapping[str, JSON]) -> None:
        document = meta.documents[0]
        try:
            claimed = formats.parse_node(said, url=self.url(place.path), zarr_format=meta.zarr_format)
        except (MetadataError, UnsupportedFeature) as error:
            contradiction(place, document, f"what consolidated metadata says of it does not read: {error}", error)
            return
        found = ["what it is"] if claimed is None else differences(meta, claimed)
        if found:
            contradiction(place, document, f"consolidated metadata says otherwise: {', '.join(found)}")


def contradiction(place: Place, document: str, what: str, error: ZarrS3Error | None = None) -> None:
    """Something is wrong with what a document of the node says."""
    said = None if error is None else type(error).__name__
    place.tally.add(Finding(kind="metadata", key=join(place.path, document), what=what, error=said))

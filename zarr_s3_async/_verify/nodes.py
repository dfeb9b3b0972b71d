"""What the folders on the way are: arrays, groups, nodes whose documents do not read, or nobody's.

Documents are read anew, each node's own. What consolidated metadata says of it is held against them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from .._engine.nodes import fetch_documents, join
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
from .folders import Folder, NodeTally, StoredPositions, Totals
from .objects import objects_of
from .report import Finding, FindingKind

Format = Literal[2, 3]

FATAL = (BucketNotFound, CredentialsNotFound, CredentialsExpired, WrongRegion)
"""Failures of the store as a whole: to go on would only repeat them for every object."""


class Nodes:
    """Finds the nodes below one root, and keeps a tally of each."""

    __slots__ = ("_max_findings", "_runtime", "cost", "tallies")

    def __init__(self, runtime: Runtime, max_findings: int) -> None:
        self._runtime = runtime
        self._max_findings = max_findings
        self.cost = Totals()
        self.tallies: list[NodeTally] = []

    def url(self, path: str) -> str:
        """Where a path is."""
        return f"{self._runtime.store.url}/{path}".rstrip("/")

    async def look(self, path: str, above: Folder) -> Folder:
        """What the folder at `path` is, which lies directly in the folder `above`."""
        name = path.rpartition("/")[2]
        descends = False
        if problem_of(name) is None and len(join(path, formats.NODE_V3).encode()) <= MAX_KEY_BYTES:
            folder = await self.node_at(path, above, (2, 3) if above.tally.zarr_format == 2 else (3, 2))
            if folder is not None:
                return folder
            # An array that does not read may have a folder per row of chunks: no need to look into each.
            descends = above.tally.kind != "unreadable" or not (name == "c" or name.isdecimal())
        return Folder(path, above, above.tally, is_node=False, descends=descends)

    async def node_at(self, path: str, above: Folder | None, which: Sequence[Format]) -> Folder | None:
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
        folder = self._place(path, above)
        folder.documents = frozenset(documents)
        folder.tally.zarr_format = meta.zarr_format
        if isinstance(meta, ArrayMeta):
            self._lay_out(folder, meta)
        else:
            folder.tally.kind = "group"
            self._claim(folder, meta, documents)
        self._compare(folder, meta)
        return folder

    async def load(self, path: str, which: Sequence[Format]) -> tuple[ArrayMeta | GroupMeta, dict[str, Blob]] | None:
        """The node, and the documents by file name that say what it is.

        Raises:
            MetadataError, UnsupportedFeature: They do not read.
        """
        for zarr_format in which:
            names = formats.document_names(zarr_format)
            if zarr_format == 2:
                names = (*names, formats.CONSOLIDATED_V2)
            found = await fetch_documents(self._runtime.store, path, names)
            documents = {name: blob.data for name, blob in found.items()}
            meta = formats.parse_node(documents, url=self.url(path), zarr_format=zarr_format)
            if meta is not None:
                carried = () if isinstance(meta, ArrayMeta) else (formats.CONSOLIDATED_V2,)
                return meta, {name: found[name] for name in (*meta.documents, *carried) if name in found}
        return None

    def _place(self, path: str, above: Folder | None) -> Folder:
        folder = Folder(path, above, NodeTally(path, self.cost, self._max_findings), is_node=True, descends=True)
        self.tallies.append(folder.tally)
        return folder

    def _unreadable(self, path: str, above: Folder | None, kind: FindingKind, error: ZarrS3Error) -> Folder:
        folder = self._place(path, above)
        folder.tally.add(Finding(kind=kind, key=path, what=str(error), error=type(error).__name__))
        for claims, name in folder.claims_about():
            claims.pop(name, None)
        return folder

    def _lay_out(self, folder: Folder, meta: ArrayMeta) -> None:
        folder.descends = False
        folder.tally.kind, folder.tally.meta, folder.stored = "array", meta, StoredPositions(meta.grid_shape)
        try:
            folder.objects = objects_of(self._runtime, meta)
        except (MetadataError, UnsupportedFeature) as error:
            contradiction(folder, meta.documents[0], f"its chunks cannot be decoded: {error}", error)

    # Consolidated metadata

    def _claim(self, folder: Folder, meta: GroupMeta, documents: Mapping[str, Blob]) -> None:
        """Note what the group says of the nodes below, and of itself."""
        if meta.consolidated is None:
            return
        folder.claims = dict(meta.consolidated)
        if formats.CONSOLIDATED_V2 not in documents:
            return
        own = formats.own_consolidated(documents[formats.CONSOLIDATED_V2].data, self.url(folder.path))
        if formats.GROUP_V2 in own:
            folder.claims[""] = own
        if formats.GROUP_V2 not in documents:
            contradiction(folder, formats.CONSOLIDATED_V2, f"it describes a group that has no {formats.GROUP_V2}")

    def _compare(self, folder: Folder, meta: ArrayMeta | GroupMeta) -> None:
        """Hold the node against what it, and the groups above, say of it."""
        for claims, name in folder.claims_about():
            if name in claims:
                self._compare_with_claim(folder, meta, claims.pop(name))
            elif name:
                contradiction(folder, meta.documents[0], "the consolidated metadata of a group above does not have it")

    def _compare_with_claim(self, folder: Folder, meta: ArrayMeta | GroupMeta, said: Mapping[str, JSON]) -> None:
        document = meta.documents[0]
        try:
            claimed = formats.parse_node(said, url=self.url(folder.path), zarr_format=meta.zarr_format)
        except (MetadataError, UnsupportedFeature) as error:
            contradiction(folder, document, f"what consolidated metadata says of it does not read: {error}", error)
            return
        found = ["what it is"] if claimed is None else differences(meta, claimed)
        if found:
            contradiction(folder, document, f"consolidated metadata says otherwise: {', '.join(found)}")


def contradiction(folder: Folder, document: str, what: str, error: ZarrS3Error | None = None) -> None:
    """Something is wrong with what a document of the node says."""
    said = None if error is None else type(error).__name__
    folder.tally.add(Finding(kind="metadata", key=join(folder.path, document), what=what, error=said))

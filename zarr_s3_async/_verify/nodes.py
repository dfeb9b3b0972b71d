"""Determine what a folder is: an array, a group, a node with invalid documents, or no node.

Each node's own documents are read, bypassing all caches, and compared with consolidated metadata.
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
"""Errors of the store as a whole: they would be the same for every object."""


class Nodes:
    """Finds the nodes below one root, and keeps the findings of each."""

    __slots__ = ("_max_findings", "_runtime", "tallies", "totals")

    def __init__(self, runtime: Runtime, max_findings: int) -> None:
        self._runtime = runtime
        self._max_findings = max_findings
        self.totals = Totals()
        self.tallies: list[NodeTally] = []

    def url(self, path: str) -> str:
        """URL of a path."""
        return f"{self._runtime.store.url}/{path}".rstrip("/")

    async def look(self, path: str, above: Folder) -> Folder:
        """Determine what the folder at `path`, directly below the folder `above`, is."""
        name = path.rpartition("/")[2]
        descends = False
        if problem_of(name) is None and len(join(path, formats.NODE_V3).encode()) <= MAX_KEY_BYTES:
            # Children usually have their parent's format: looking for it first saves a request per node.
            folder = await self.node_at(path, above, (2, 3) if above.tally.zarr_format == 2 else (3, 2))
            if folder is not None:
                return folder
            # An array with invalid metadata may have a folder per row of chunks: a request for each would be wasted.
            descends = above.tally.kind != "unreadable" or not (name == "c" or name.isdecimal())
        return Folder(path, above, above.tally, is_node=False, descends=descends)

    async def node_at(self, path: str, above: Folder | None, which: Sequence[Format]) -> Folder | None:
        """The node at `path`, readable or not, in the first of these formats that is stored; None if there is none.

        Raises:
            StoreError: The store as a whole fails, or the root cannot be read.
        """
        try:
            found = await self.load(path, which)
        except (MetadataError, UnsupportedFeature) as error:
            return self._unreadable(path, above, "metadata", error)
        except StoreError as error:
            # Below the root, one forbidden node must not hide what is wrong with the others.
            if above is None or isinstance(error, FATAL):
                raise
            return self._unreadable(path, above, "unreadable", error)
        if found is None:
            return None
        meta, documents = found
        for blob in documents.values():
            self.totals.read(len(blob.data))
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
        """The node, and its documents by file name.

        Raises:
            MetadataError, UnsupportedFeature: The documents are invalid or unsupported.
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
        folder = Folder(path, above, NodeTally(path, self.totals, self._max_findings), is_node=True, descends=True)
        self.tallies.append(folder.tally)
        return folder

    def _unreadable(self, path: str, above: Folder | None, kind: FindingKind, error: ZarrS3Error) -> Folder:
        folder = self._place(path, above)
        folder.tally.add(Finding(kind=kind, key=path, what=str(error), error=type(error).__name__))
        # The node is reported as unreadable; comparing its entry in consolidated metadata too would report it twice.
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
        """Record what the group's consolidated metadata contains about the nodes below and the group itself."""
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
        """Compare the node with the consolidated metadata of the groups above and its own."""
        for claims, name in folder.claims_about():
            if name in claims:
                self._compare_with_claim(folder, meta, claims.pop(name))
            elif name:
                contradiction(folder, meta.documents[0], "the consolidated metadata of a group above does not have it")

    def _compare_with_claim(self, folder: Folder, meta: ArrayMeta | GroupMeta, claim: Mapping[str, JSON]) -> None:
        document = meta.documents[0]
        try:
            claimed = formats.parse_node(claim, url=self.url(folder.path), zarr_format=meta.zarr_format)
        except (MetadataError, UnsupportedFeature) as error:
            contradiction(folder, document, f"its entry in the consolidated metadata is invalid: {error}", error)
            return
        found = ["the kind of node"] if claimed is None else differences(meta, claimed)
        if found:
            contradiction(folder, document, f"it differs from the consolidated metadata: {', '.join(found)}")


def contradiction(folder: Folder, document: str, what: str, error: ZarrS3Error | None = None) -> None:
    """Report that a document of the node contradicts another, or is invalid."""
    name = None if error is None else type(error).__name__
    folder.tally.add(Finding(kind="metadata", key=join(folder.path, document), what=what, error=name))

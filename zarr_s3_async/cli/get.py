"""`zarr-s3 get URL REGION`: a region as text, or as a file that other programs read."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from .._array import Array
from ..errors import ConfigError
from . import files, units
from .options import Call, Region, Url, parse_region
from .terminal import err, out, print_line, print_lines, progress_bar


async def get(
    call: Call,
    url: Url,
    part: Annotated[
        str, typer.Argument(metavar="[REGION]", help="As NumPy writes it: 0:10,5,::2 or '[-1]'", show_default=False)
    ] = "",
    target: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="FILE", help="x.npy, x.npz, x.csv, x.png, x.raw, or - for stdout."),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="npy, npz, csv, png or raw. Default: the file's ending."),
    ] = None,
    missing: Annotated[str, typer.Option(metavar="WORD", help="Absent chunks: fill or raise.")] = "fill",
) -> None:
    """Read a region, and show it or store it in a file.

    A region of slices is written to .npy and .raw in bounded memory, however large it is; others are read at once.
    """
    selection = parse_region(part)
    chosen = None if target is None and form is None else files.checked_form(target or "-", form)
    # Before a read that may take long.
    if target not in {None, "-"} and not Path(str(target)).absolute().parent.is_dir():
        raise ConfigError(f"--out {target}: the folder does not exist")
    async with call.session() as session:
        array = await session.open_array(url, missing=missing)  # type: ignore[arg-type]  # checked there
        if chosen is None:
            _show(call, array, await array[selection])
            return
        if target in {None, "-"}:
            _to_stdout(await array[selection], chosen)
            return
        path = Path(str(target))
        shape, dtype = await _to_file(array, selection, path, chosen)
    size = path.stat().st_size
    fields = {
        "url": array.url, "shape": list(shape), "dtype": dtype, "file": str(path), "format": chosen, "nbytes": size,
    }  # fmt: skip
    call.show(fields, lambda: print_line(f"{path}  {dtype}  {units.shape(shape)}  {units.size(size)}"))


def _show(call: Call, array: Array, data: Any) -> None:
    values = np.asarray(data)
    fields = {"url": array.url, "shape": list(values.shape), "dtype": str(values.dtype), "values": values}
    call.show(fields, lambda: print_lines(np.array2string(values, max_line_width=out.width, threshold=1000)))


def _to_stdout(data: Any, form: files.Form) -> None:
    if sys.stdout.isatty() and form != "csv":
        raise ConfigError("this would write binary data to the terminal: name a file with --out, or pipe the output")
    # `np.save` seeks, which a pipe cannot.
    buffer = io.BytesIO()
    files.write(np.asarray(data), buffer, form)
    sys.stdout.flush()
    sys.stdout.buffer.write(buffer.getbuffer())
    sys.stdout.buffer.flush()


async def _to_file(array: Array, selection: Region, path: Path, form: files.Form) -> tuple[tuple[int, ...], str]:
    """Write to a temporary file, and rename it when it is complete."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        streamed = form in {"npy", "raw"} and array.ndim > 0 and not array.dtype.hasobject and _is_of_slices(selection)
        if streamed:
            shape = await _stream(array, selection, partial, form)
        else:
            with err.status("reading …"):
                data = np.asarray(await array[selection])
            shape = data.shape
            with partial.open("wb") as file:
                files.write(data, file, form)
        # An interrupted read leaves no file that looks complete.
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return shape, str(array.dtype)


def _is_of_slices(selection: Region) -> bool:
    return all(part is Ellipsis or (isinstance(part, slice) and part.step in {None, 1}) for part in selection)


async def _stream(array: Array, selection: Region, path: Path, form: files.Form) -> tuple[int, ...]:
    """Write blocks as they arrive to a memory-mapped file."""
    bounds = _bounds(array.shape, selection)
    shape = tuple(stop - start for start, stop in bounds)
    target = files.mapped(path, shape, array.dtype, form)
    if target is not None:
        region = tuple(slice(*bound) for bound in bounds)
        with progress_bar("reading") as report:
            # Blocks are placed by their position, so none has to wait for an earlier one.
            async with array.stream(region, order="any", progress=report) as blocks:
                async for block in blocks:
                    offset = zip(block.place, bounds, strict=True)
                    place = tuple(slice(where.start - first, where.stop - first) for where, (first, _) in offset)
                    target[place] = block.data
        target.flush()
    return shape


def _bounds(shape: tuple[int, ...], selection: Region) -> list[tuple[int, int]]:
    """Start and stop of each dimension, as NumPy interprets the slices."""
    given = list(selection)
    fill = len(shape) - (len(given) - given.count(Ellipsis))
    if given.count(Ellipsis) > 1 or fill < 0:
        raise ConfigError(f"the region has {len(given)} parts, but the array has {len(shape)} dimensions")
    at = given.index(Ellipsis) if Ellipsis in given else len(given)
    parts = [*given[:at], *[slice(None)] * fill, *given[at + 1 :]]
    found = []
    for part, length in zip(parts, shape, strict=True):
        assert isinstance(part, slice)  # noqa: S101  # checked by `_is_of_slices`
        start, stop, _ = part.indices(length)
        found.append((start, max(start, stop)))
    return found

"""Commands that write data: `create`, `put`, `append`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from ..errors import ConfigError
from . import files, units
from .options import Call, Url, parse_numbers, parse_region
from .terminal import err, print_line


def _existing(file: Path) -> Path:
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(file)):
        raise typer.BadParameter(f"{str(file).replace(':/', '://', 1)!r} is a URL: the file comes first, then the URL.")
    if not file.is_file():
        raise typer.BadParameter(f"there is no file {str(file)!r}.")
    return file


_File = Annotated[Path, typer.Argument(metavar="FILE", help="x.npy, x.npz, x.csv or x.raw.", callback=_existing)]
_Format = Annotated[str | None, typer.Option("--format", metavar="NAME", help="Default: the file's ending.")]
_Chunks = Annotated[
    str | None, typer.Option("--chunks", metavar="N,N", help="Elements of a chunk per dimension. Default: about 1 MiB.")
]
_Shards = Annotated[str | None, typer.Option("--shards", metavar="N,N", help="Elements of a stored object.")]
_Dtype = Annotated[str | None, typer.Option("--dtype", metavar="NAME", help="float32, int16, str …")]
_Shape = Annotated[str | None, typer.Option("--shape", metavar="N,N", help="Elements per dimension.")]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Remove what is there first.")]
_ZarrFormat = Annotated[
    int | None, typer.Option("--zarr-format", metavar="2|3", help="Of the new array. Default: 3.", min=2, max=3)
]


async def create(
    call: Call,
    url: Url,
    shape: _Shape = None,
    dtype: _Dtype = None,
    chunks: _Chunks = None,
    shards: _Shards = None,
    fill_value: Annotated[
        str | None, typer.Option("--fill-value", metavar="VALUE", help="What absent chunks hold.")
    ] = None,
    codecs: Annotated[
        str | None,
        typer.Option("--codecs", metavar="JSON", help='The whole chain, as in zarr.json: [{"name": "bytes"}]'),
    ] = None,
    dimension_names: Annotated[
        str | None, typer.Option("--dimension-names", metavar="A,B", help="One name per dimension.")
    ] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option("--attribute", metavar="KEY=VALUE", help="VALUE is JSON, or else text. Repeatable."),
    ] = None,
    group: Annotated[bool, typer.Option("--group", help="Make a group instead of an array.")] = False,
    zarr_format: _ZarrFormat = None,
    overwrite: _Overwrite = False,
) -> None:
    """Create an array (with --shape and --dtype) or a group (with --group)."""
    attributes = parse_attributes(attribute or [])
    if group and any(
        given is not None for given in (shape, dtype, chunks, shards, fill_value, codecs, dimension_names)
    ):
        raise ConfigError("--group allows only --attribute, --zarr-format and --overwrite besides")
    if not group and (shape is None or dtype is None):
        raise ConfigError("an array needs --shape and --dtype; a group needs --group")
    form = cast("Literal[2, 3]", zarr_format or 3)
    async with call.session() as session:
        if group:
            made = await session.create_group(url, attributes=attributes, zarr_format=form, overwrite=overwrite)
            call.show({"url": made.url, "kind": "group"}, lambda: print_line(f"created {made.url}"))
            return
        options: dict[str, Any] = {
            "shape": _numbers(str(shape), "--shape"),
            "dtype": str(dtype),
            **grid_options(chunks, shards),
            "attributes": attributes,
            "zarr_format": form,
            "overwrite": overwrite,
        }
        if fill_value is not None:
            options["fill_value"] = _value(fill_value)
        if codecs is not None:
            options["codecs"] = parsed_json(codecs, "--codecs")
        if dimension_names is not None:
            options["dimension_names"] = [name or None for name in dimension_names.split(",")]
        array = await session.create_array(url, **options)
    _say_made(call, array, "created")


async def put(
    call: Call,
    file: _File,
    url: Url,
    part: Annotated[
        str | None,
        typer.Option("--at", metavar="REGION", help="Write into this region of an array that is there."),
    ] = None,
    form: _Format = None,
    chunks: _Chunks = None,
    shards: _Shards = None,
    dtype: _Dtype = None,
    shape: _Shape = None,
    zarr_format: _ZarrFormat = None,
    overwrite: _Overwrite = False,
) -> None:
    """Store a file as a new array, or (with --at) into a region of one that is there."""
    if part is not None and (overwrite or any(given is not None for given in (chunks, shards, zarr_format))):
        raise ConfigError(
            "--at writes into an array that is there: omit --chunks, --shards, --zarr-format and --overwrite"
        )
    data = _read(file, form, dtype, shape)
    async with call.session() as session:
        if part is not None:
            array = await session.open_array(url)
            files.refuse_lossy_cast(file, data, array.dtype)
            with err.status("writing …"):
                await array[parse_region(part)].set(data)
        else:
            array = await session.create_array(
                url, shape=data.shape, dtype=data.dtype, overwrite=overwrite,
                zarr_format=cast("Literal[2, 3]", zarr_format or 3), **grid_options(chunks, shards),
            )  # fmt: skip
            with err.status("writing …"):
                await array[...].set(data)
    _say_made(call, array, "stored")


async def append(
    call: Call,
    file: _File,
    url: Url,
    axis: Annotated[int, typer.Option("--axis", metavar="N", help="The dimension that grows.")] = 0,
    form: _Format = None,
    dtype: _Dtype = None,
    shape: _Shape = None,
) -> None:
    """Append a file to an array, along one dimension."""
    data = _read(file, form, dtype, shape)
    async with call.session() as session:
        array = await session.open_array(url)
        files.refuse_lossy_cast(file, data, array.dtype)
        with err.status("writing …"):
            await array.append(data, axis=axis)
    _say_made(call, array, "appended to")


def _say_made(call: Call, array: Any, verb: str) -> None:
    shape = tuple(array.shape)
    fields = {"url": array.url, "kind": "array", "shape": list(shape), "dtype": str(array.dtype)}
    call.show(fields, lambda: print_line(f"{verb} {array.url}  {array.dtype}  {units.shape(shape)}"))


def _read(file: Path, form: str | None, dtype: str | None, shape: str | None) -> files.Values:
    numbers = None if shape is None else tuple(_numbers(shape, "--shape"))
    return files.read(file, files.checked_form(str(file), form), dtype=dtype, shape=numbers)


def grid_options(chunks: str | None, shards: str | None) -> dict[str, Any]:
    """`--chunks` and `--shards` as options of a new array."""
    return {
        "chunks": "auto" if chunks is None or chunks == "auto" else _numbers(chunks, "--chunks"),
        "shards": None if shards is None else _numbers(shards, "--shards"),
    }


def _numbers(text: str, flag: str) -> list[int]:
    try:
        return parse_numbers(text)
    except ValueError as error:
        raise ConfigError(f"{flag} {text}: write integers separated by commas, like 100,200") from error


def parsed_json(text: str, flag: str) -> Any:
    """Parse the value of a flag as JSON.

    Raises:
        ConfigError: The value is not JSON.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{flag}: the value is not JSON: {error}") from error


def _value(text: str) -> Any:
    """Parse a value as JSON, or else take it as text: `NaN` and `0xffff` are valid fill values."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def parse_attributes(given: list[str]) -> dict[str, Any]:
    """`units=m` and `scale=2.5` as attributes.

    Raises:
        ConfigError: One has no equals sign.
    """
    found = {}
    for text in given:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise ConfigError(f"{text!r} is not an attribute: write KEY=VALUE")
        found[key] = _value(value)
    return found


async def attrs(
    call: Call,
    url: Url,
    given: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="To set: VALUE is JSON, or else text.")
    ] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="KEY", help="To remove. Repeatable.")] = None,
) -> None:
    """Show the attributes of an array or a group, after setting and removing what is named."""
    changes = parse_attributes(given or [])
    gone = remove or []
    if both := changes.keys() & set(gone):
        raise ConfigError(f"{', '.join(sorted(both))}: cannot be set and removed at once")
    async with call.session() as session:
        node = await session.open(url)
        # Before any write, so that a misspelt name changes nothing.
        if absent := [key for key in gone if key not in node.attrs]:
            raise ConfigError(
                f"{node.url} has no attribute {', '.join(absent)}; it has {', '.join(node.attrs) or 'none'}"
            )
        if gone:
            kept: dict[str, Any] = {key: value for key, value in node.attrs.items() if key not in gone}
            # Merging cannot remove a key; this replaces updates of others since `open`.
            await node.update_attributes(kept | changes, replace=True)
        elif changes:
            await node.update_attributes(changes)
        found = dict(node.attrs)
    call.show({"url": node.url, "attributes": found}, lambda: _show(found))


def _show(found: dict[str, Any]) -> None:
    for key, value in found.items():
        print_line(f"{key} = {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)}")

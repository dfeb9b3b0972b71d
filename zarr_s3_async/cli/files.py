"""Arrays in files of other formats: npy, npz, csv, png and raw bytes."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, Literal, TypeAlias, cast, get_args

import numpy as np

from ..errors import ConfigError

Form: TypeAlias = Literal["npy", "npz", "csv", "png", "raw"]
Values: TypeAlias = np.ndarray[Any, np.dtype[Any]]
_FORMS: tuple[str, ...] = get_args(Form)


def checked_form(path: str, form: str | None) -> Form:
    """What was asked for by name, or by the ending of the file.

    Raises:
        ConfigError: It is none of the formats.
    """
    chosen = form or ("npy" if path == "-" else Path(path).suffix.lstrip(".").lower())
    if chosen == "bin":
        chosen = "raw"
    if chosen not in _FORMS:
        raise ConfigError(
            f"{chosen or path!r} is no format: name the file x.npy, x.npz, x.csv, x.png or x.raw, or give --format"
        )
    return cast("Form", chosen)


def write(data: Values, file: IO[bytes], form: Form) -> None:
    """Write an array.

    Raises:
        ConfigError: The format has no place for arrays like this one.
    """
    match form:
        case "npy":
            _refuse_objects(data, form)
            np.save(file, data, allow_pickle=False)
        case "npz":
            _refuse_objects(data, form)
            np.savez_compressed(file, data=data)
        case "csv":
            _write_csv(data, file)
        case "png":
            _write_png(data, file)
        case "raw":
            _refuse_objects(data, form)
            file.write(np.ascontiguousarray(data).tobytes())


def mapped(path: Path, shape: tuple[int, ...], dtype: Any, form: Form) -> np.memmap[Any, Any] | None:
    """A file for an array of this shape, in memory as it is written; None where there are no elements to write."""
    if 0 in shape:
        with path.open("wb") as file:
            write(np.empty(shape, dtype), file, form)
        return None
    if form == "npy":
        return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    return np.memmap(path, mode="w+", dtype=dtype, shape=shape)


def read(path: Path, form: Form, *, dtype: Any = None, shape: tuple[int, ...] | None = None) -> Values:
    """An array from a file; big ones stay in the file until they are needed.

    Raises:
        ConfigError: The file holds no array, or not one of this format.
    """
    try:
        match form:
            case "npy":
                return cast("Values", np.load(path, mmap_mode="r", allow_pickle=False))
            case "npz":
                return _only_member(path)
            case "csv":
                return np.atleast_1d(np.genfromtxt(path, delimiter=",", dtype=dtype or float))
            case "raw":
                if dtype is None or shape is None:
                    raise ConfigError("raw bytes do not say what they are: give --dtype and --shape")
                return np.memmap(path, mode="r", dtype=np.dtype(dtype), shape=shape)
            case "png":
                raise ConfigError("a picture is no array: png is for reading alone")
    except (ValueError, EOFError) as error:
        raise ConfigError(f"{path} is no array of the format {form}: {error}") from error


def _only_member(path: Path) -> Values:
    with np.load(path, allow_pickle=False) as archive:
        names = archive.files
        if len(names) != 1:
            raise ConfigError(f"{path} holds {len(names)} arrays ({', '.join(names)}): write each to an npy file")
        return cast("Values", archive[names[0]])


def _refuse_objects(data: Values, form: Form) -> None:
    if data.dtype.hasobject:
        raise ConfigError(f"elements of any length have no place in {form}: write csv")


def _write_csv(data: Values, file: IO[bytes]) -> None:
    import csv
    import io

    if data.ndim > 2:  # lines and columns
        raise ConfigError(f"csv has lines and columns, and this region {data.ndim} dimensions: choose a plane of it")
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    rows = data.reshape(-1, 1) if data.ndim < 2 else data  # likewise
    csv.writer(text, lineterminator="\n").writerows([_cell(value) for value in row.tolist()] for row in rows)
    text.detach()


def _cell(value: object) -> object:
    return repr(value) if isinstance(value, float) else value


def _write_png(data: Values, file: IO[bytes]) -> None:
    from matplotlib.image import imsave

    is_colour = data.ndim == 3 and data.shape[2] in {3, 4} and data.dtype == np.uint8  # RGB, RGBA
    if not is_colour and (data.ndim != 2 or data.dtype.kind not in "biuf"):  # a plane
        raise ConfigError(
            f"a picture is a plane of numbers, or uint8 with 3 or 4 colours last; this is {data.dtype} {data.shape}"
        )
    imsave(
        cast("Any", file),
        data if is_colour else data.astype(float),
        format="png",
        cmap=None if is_colour else "viridis",
    )

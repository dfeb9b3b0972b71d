"""Arrays in files of other formats: npy, npz, csv, png and raw bytes."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeAlias, cast, get_args
from zipfile import BadZipFile

import numpy as np

from ..errors import ConfigError

Form: TypeAlias = Literal["npy", "npz", "csv", "png", "raw"]
Values: TypeAlias = np.ndarray[Any, np.dtype[Any]]
_FORMS: tuple[str, ...] = get_args(Form)


def checked_form(path: str, form: str | None) -> Form:
    """The format given by name, or by the suffix of the file.

    Raises:
        ConfigError: It is not one of the formats.
    """
    # stdout has no suffix; npy carries shape and data type.
    chosen = form or ("npy" if path == "-" else Path(path).suffix.lstrip(".").lower())
    if chosen == "bin":
        chosen = "raw"
    if chosen not in _FORMS:
        raise ConfigError(
            f"{chosen or path!r} is not a format: name the file x.npy, x.npz, x.csv, x.png or x.raw, or give --format"
        )
    return cast("Form", chosen)


def write(data: Values, file: IO[bytes], form: Form) -> None:
    """Write an array.

    Raises:
        ConfigError: The format cannot store such an array.
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
    """A memory-mapped file for an array of this shape; None if there are no elements to write."""
    # An empty file cannot be mapped.
    if 0 in shape:
        with path.open("wb") as file:
            write(np.empty(shape, dtype), file, form)
        return None
    if form == "npy":
        return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    return np.memmap(path, mode="w+", dtype=dtype, shape=shape)


def read(path: Path, form: Form, *, dtype: Any = None, shape: tuple[int, ...] | None = None) -> Values:
    """An array from a file; npy and raw files are memory-mapped.

    Args:
        path: The file.
        form: Its format.
        dtype: The data type of a csv or raw file; npy and npz files have their own, which it must be.
        shape: The shape of a raw file; files of other formats have their own, which it must be.

    Raises:
        ConfigError: The file does not contain such an array.
    """
    found = _read(path, form, dtype, shape)
    if shape is not None and found.shape != shape:
        raise ConfigError(f"{path} has the shape {found.shape}, not {shape}: omit --shape")
    if dtype is not None and form != "csv" and found.dtype != np.dtype(dtype):
        raise ConfigError(f"{path} has the data type {found.dtype}, not {dtype}: omit --dtype")
    return found


def _read(path: Path, form: Form, dtype: Any, shape: tuple[int, ...] | None) -> Values:
    try:
        np.dtype(dtype)
    except TypeError as error:
        raise ConfigError(f"--dtype {dtype} is not a data type: {error}") from error
    try:
        match form:
            case "npy":
                return _mapped(path)
            case "npz":
                return _only_member(path)
            case "csv":
                return _read_csv(path, np.dtype(dtype or float))
            case "raw":
                if dtype is None or shape is None:
                    raise ConfigError("raw bytes need --dtype and --shape")
                return np.memmap(path, mode="r", dtype=np.dtype(dtype), shape=shape)
            case "png":
                raise ConfigError("a picture is not an array: png is only for reading from a store")
    except (ValueError, EOFError, BadZipFile) as error:
        reason = str(error).partition("; use `usecols`")[0]  # advice for programs
        reason = re.sub(
            r"row (\d+), column", lambda row: f"row {int(row[1]) + 1}, column", reason
        )  # columns begin at 1
        raise ConfigError(f"{path} is not an array of the format {form}: {reason}") from error


def _read_csv(path: Path, dtype: np.dtype[Any]) -> Values:
    """Lines of cells; empty cells of a floating-point type are NaN. (`np.genfromtxt` reads any text as NaN or -1.)"""
    cell: Callable[[str], Any] | None = None
    if dtype.kind in "fc":
        cell = _number_or_nan
    elif dtype.kind == "b":
        cell = _truth
    with warnings.catch_warnings():
        # An empty file is an empty array, which the caller reports by its shape.
        warnings.filterwarnings("ignore", ".*no data", UserWarning)
        return np.loadtxt(path, delimiter=",", quotechar='"', dtype=dtype, converters=cell, encoding="utf-8", ndmin=1)


def _number_or_nan(text: str) -> complex:
    if not text.strip():
        return float("nan")
    try:
        return float(text)
    except ValueError:
        return complex(text.strip())


def _truth(text: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[text.strip().lower()]


_CHECKED = 2**20
"""Elements that are compared at once, to bound the memory of the copies."""


def refuse_lossy_cast(path: Path, data: Values, dtype: np.dtype[Any]) -> None:
    """Refuse values that would become others: NumPy's casts check none.

    They wrap large integers, drop fractions, cut text and times. Rounding to a floating-point type is allowed.

    Raises:
        ConfigError: A value of the file has no equivalent in the data type.
    """
    names = data.dtype.names
    if dtype.names is not None:
        # NumPy assigns fields by position, and anything else to every field.
        for number, name in enumerate(dtype.names):
            if names is None:
                refuse_lossy_cast(path, data, dtype[name].base)
            elif number < len(names):
                refuse_lossy_cast(path, data[names[number]], dtype[name].base)
        return
    is_checked_by_write = data.dtype.kind in "SUTO" and dtype.kind not in "SU"  # text that is to be parsed
    if is_checked_by_write or names is not None or dtype.hasobject or np.can_cast(data.dtype, dtype, "safe"):
        return
    if data.dtype.kind == "c" and dtype.kind not in "cSU":
        raise ConfigError(f"{path} holds complex numbers, which the array's data type {dtype} cannot hold")
    largest = _largest_float(dtype)
    flat = data.ravel(order="K")  # a view of a file's memory
    for first in range(0, flat.size, _CHECKED):
        values = np.asarray(flat[first : first + _CHECKED])
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            try:
                lost = _changed(values, dtype) if largest is None else _out_of_range(values, dtype, largest)
            except (TypeError, ValueError) as error:
                raise ConfigError(
                    f"{path} holds values of the data type {data.dtype}, which the array's data type {dtype} cannot "
                    f"hold: {error}"
                ) from error
        if lost.any():
            raise ConfigError(
                f"{path} holds {values[lost][0]}, which the array's data type {dtype} cannot hold: convert the file, "
                "or create an array of another --dtype"
            )


def _largest_float(dtype: np.dtype[Any]) -> float | None:
    """The largest finite number of a floating-point type; None for other types."""
    if dtype.kind in "fc":
        return float(np.finfo(dtype).max)
    if dtype.isbuiltin != _CUSTOM:
        return None
    import ml_dtypes  # installed, since the array has one of its types

    info: Any = ml_dtypes.finfo  # it has no annotations
    try:
        return float(info(dtype).max)
    except ValueError:  # one of its integers
        return None


def _changed(values: Values, dtype: np.dtype[Any]) -> Values:
    stored = values.astype(dtype)
    changed: Values = stored.astype(values.dtype) != values
    if values.dtype.kind in "mM":
        changed &= ~(np.isnat(values) & (np.isnat(stored) if dtype.kind in "mM" else False))
    elif values.dtype.kind in "iuf" and dtype.kind not in "SU":
        # -1 as an unsigned number comes back as -1.
        changed |= (stored.astype("i8") < 0) != (values < 0) if dtype.kind != "u" else values < 0
    return changed


def _out_of_range(values: Values, dtype: np.dtype[Any], largest: float) -> Values:
    stored = values.astype(dtype)
    if dtype.kind in "fc":  # a number beyond the largest one may be rounded down to it
        return cast("Values", np.isfinite(values) & ~np.isfinite(stored))
    # The small types of ml_dtypes have no infinity, or no NaN, and store their largest number or zero instead.
    numbers = values.astype(float)
    kept = (np.isnan(numbers) == np.isnan(stored)) & (np.isinf(numbers) == np.isinf(stored))
    return cast("Values", ~kept | (np.isfinite(numbers) & (np.abs(numbers) > largest)))


_CUSTOM: Final = 2
"""`dtype.isbuiltin` of types that other libraries define."""


def _mapped(path: Path) -> Values:
    found = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(found, np.ndarray):  # np.load decides by the content
        found.close()
        raise ConfigError(f"{path} is an npz file")
    return found


def _only_member(path: Path) -> Values:
    with path.open("rb") as file:  # np.load(path) does not close it if it is not an archive
        archive = np.load(file, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ConfigError(f"{path} is an npy file")
        names = archive.files
        if len(names) != 1:
            raise ConfigError(f"{path} holds {len(names)} arrays ({', '.join(names)}): write each to an npy file")
        return cast("Values", archive[names[0]])


def _refuse_objects(data: Values, form: Form) -> None:
    if data.dtype.hasobject:
        raise ConfigError(f"{form} cannot store elements of variable length: write csv")


def _write_csv(data: Values, file: IO[bytes]) -> None:
    import csv
    import io

    if data.ndim > 2:  # lines and columns
        raise ConfigError(
            f"csv has lines and columns, but this region has {data.ndim} dimensions: choose a plane of it"
        )
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    rows = data.reshape(-1, 1) if data.ndim < 2 else data  # likewise
    csv.writer(text, lineterminator="\n").writerows([_cell(value) for value in row.tolist()] for row in rows)
    # Otherwise the wrapper closes the caller's file when it is collected.
    text.detach()


def _cell(value: object) -> object:
    # All digits of a float, so that reading gives the same number.
    return repr(value) if isinstance(value, float) else value


def _write_png(data: Values, file: IO[bytes]) -> None:
    from matplotlib.image import imsave

    is_colour = data.ndim == 3 and data.shape[2] in {3, 4} and data.dtype == np.uint8  # RGB, RGBA
    if not is_colour and (data.ndim != 2 or data.dtype.kind not in "biuf"):  # a plane
        raise ConfigError(
            f"a picture must be a plane of numbers, or uint8 with 3 or 4 colours last, not {data.dtype} {data.shape}"
        )
    imsave(
        cast("Any", file),
        data if is_colour else data.astype(float),
        format="png",
        cmap=None if is_colour else "viridis",
    )

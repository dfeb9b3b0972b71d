"""The imports of the codecs package."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import zarr_s3_async.codecs

FOLDER = Path(zarr_s3_async.codecs.__file__).parent
HEAVY = ("numcodecs", "zstandard", "google_crc32c", "ml_dtypes", "pcodec", "zfpy", "importlib.metadata")
FORBIDDEN = {"asyncio", "anyio", "aiobotocore", "botocore", "socket", "threading"}


@pytest.mark.parametrize(
    ("code", "imported"),
    [
        ("", set()),
        ("build_pipeline([CodecSpec('bytes'), CodecSpec('gzip')], ChunkSpec((4,), np.dtype('u1'), 0))", set()),
        ("build_pipeline([CodecSpec('bytes'), CodecSpec('zstd')], ChunkSpec((4,), np.dtype('u1'), 0))", {"zstandard"}),
        ("build_pipeline([CodecSpec('bytes'), CodecSpec('blosc')], ChunkSpec((4,), np.dtype('u1'), 0))", {"numcodecs"}),
        (
            "build_pipeline([CodecSpec('bytes'), CodecSpec('crc32c')], ChunkSpec((4,), np.dtype('u1'), 0))",
            {"google_crc32c"},
        ),
    ],
)
def test_a_library_is_imported_when_the_first_array_needs_it(code, imported):
    script = (
        "import sys, numpy as np\n"
        "before = set(sys.modules)\n"
        "from zarr_s3_async.codecs import ChunkSpec, build_pipeline\n"
        "from zarr_s3_async._types import CodecSpec\n"
        f"{code}\n"
        f"print(*sorted(set({HEAVY!r}) & (set(sys.modules) - before)))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    found = set(run.stdout.split())
    assert found >= imported
    # numcodecs itself imports what it finds installed.
    assert found - {"importlib.metadata"} <= (set(HEAVY) if "numcodecs" in imported else imported)


def test_codecs_are_pure_and_import_no_other_part():
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
                if node.level >= 2:
                    below = {node.module} if node.module else {alias.name for alias in node.names}
                    assert below <= {"_types", "_ml_dtypes", "errors", "config", "byte_range", "events"}, path
            else:
                continue
            assert not {name.split(".")[0] for name in names} & FORBIDDEN, path


def test_every_module_has_a_docstring():
    for path in FOLDER.glob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_the_public_names_of_codecs_are_sorted_and_exist():
    names = zarr_s3_async.codecs.__all__
    assert names == sorted(names)
    assert all(hasattr(zarr_s3_async.codecs, name) for name in names)


@pytest.mark.parametrize("broken", ["zfpy", "pcodec"])
def test_a_broken_optional_package_disables_only_its_own_codec(broken, tmp_path):
    """zfpy 1.0.1.post0 breaks `import numcodecs`, which would break every array with zstd."""
    (tmp_path / f"{broken}.py").write_text("raise ValueError('broken')\n")
    script = (
        "import sys, numpy as np\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "from zarr_s3_async.codecs import ChunkSpec, build_pipeline\n"
        "from zarr_s3_async._types import CodecSpec\n"
        "from zarr_s3_async.errors import MetadataError, UnsupportedFeature\n"
        "chunk = ChunkSpec((4,), np.dtype('<f4'), 0)\n"
        "for name in ('zstd', 'blosc', 'numcodecs.lz4', 'numcodecs.fletcher32'):\n"
        "    line = build_pipeline([CodecSpec('bytes', {'endian': 'little'}), CodecSpec(name)], chunk)\n"
        "    assert line.decode(line.encode(np.arange(4, dtype='<f4'))).tolist() == [0, 1, 2, 3]\n"
        "try:\n"
        f"    build_pipeline([CodecSpec('numcodecs.{broken}')], chunk)\n"
        "except (MetadataError, UnsupportedFeature) as error:\n"
        "    print('refused:', error)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "refused" in run.stdout
    assert broken in run.stdout


def test_the_first_large_zstd_chunks_are_decoded_without_numcodecs():
    """It is imported for later chunks, and the results are the same."""
    script = (
        "import sys, numpy as np, zstandard\n"
        "from zarr_s3_async.codecs import ChunkSpec, build_pipeline\n"
        "from zarr_s3_async._types import CodecSpec\n"
        "data = np.arange(2**18, dtype='i4')\n"
        "stored = zstandard.ZstdCompressor().compress(data.tobytes())\n"
        "data = data.view('u1')\n"
        "pipeline = build_pipeline([CodecSpec('bytes'), CodecSpec('zstd')], ChunkSpec((2**20,), data.dtype, 0))\n"
        "loaded = []\n"
        "for _ in range(20):\n"
        "    assert np.array_equal(pipeline.decode(stored), data)\n"
        "    loaded.append('numcodecs' in sys.modules)\n"
        "print(loaded.count(False), loaded[-1])\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["16", "True"]

"""docs/site.py: how it rewrites links, which pages it has, and that it detects broken links."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

import zarr_s3_async as zs

from .pages import PAGES, ROOT


@pytest.fixture(scope="module")
def site() -> Any:
    spec = importlib.util.spec_from_file_location("site_builder", ROOT / "docs/site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("page", "target", "wanted"),
    [
        ("docs/shards.md", "grids.md#growth", "grids.md#growth"),
        ("docs/shards.md", "../ARCHITECTURE.md", "ARCHITECTURE.md"),
        ("docs/shards.md", "../README.md", "index.md"),
        ("docs/shards.md", "#below", "#below"),
        ("docs/shards.md", "https://zarr.dev", "https://zarr.dev"),
        ("docs/benchmarks.md", "benchmarks/read.png", "benchmarks/read.png"),
        ("docs/deprecation.md", "../tests/public_api.txt", "{HOME}/blob/main/tests/public_api.txt"),
        ("README.md", "{HOME}/blob/main/docs/iam.md", "iam.md"),
        ("README.md", "{HOME}/tree/main/examples", "{HOME}/tree/main/examples"),
    ],
)
def test_links_lead_to_a_page_of_the_site_or_a_file_on_the_web(site: Any, page: str, target: str, wanted: str) -> None:
    text = f"[x]({target.replace('{HOME}', site.HOME)})"
    assert site.with_links(text, ROOT / page) == f"[x]({wanted.replace('{HOME}', site.HOME)})"


def test_the_navigation_names_every_page_once(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that are in no group are included."""
    monkeypatch.setattr(site, "PAGES", tmp_path)
    stems = {Path(page).stem for page in PAGES if page != "docs/index.md"}
    for stem in stems:
        tmp_path.joinpath(f"{'index' if stem == 'README' else stem}.md").touch()
    groups = [pages for group in site.configuration([])["nav"] for pages in group.values()]
    named = [page.removesuffix(".md") for pages in groups for page in pages]
    assert sorted(named) == sorted(stems - {"README"} | {"index"})


def test_the_reference_lists_all_public_names(site: Any) -> None:
    named = [name for names in site.REFERENCE.values() for name in names]
    assert len(set(named)) == len(named)
    assert set(named) <= set(zs.__all__)


def test_the_reference_has_every_public_module(site: Any) -> None:
    package = ROOT / "zarr_s3_async"
    ways = [path for folder in ("adapters", "metrics") for path in (package / folder).glob("[!_]*.py")]
    public = {".".join(path.relative_to(package).with_suffix("").parts) for path in ways}
    named = [name for names in site.MODULES.values() for name in names]
    assert sorted(named) == sorted(public | {"blocking", "fastapi", "testing", "viewer"})


def test_a_broken_link_is_detected(site: Any, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<h1 id="top"></h1><a href="b.html#there">b</a><a href="#top">t</a>')
    (tmp_path / "b.html").write_text('<p id="there"></p><a href="a.html">a</a><img src="x.png">')
    assert site.broken_links(tmp_path) == ["b.html: x.png"]
    (tmp_path / "b.html").write_text('<a href="gone.html">g</a>')
    assert site.broken_links(tmp_path) == ["a.html: b.html#there", "b.html: gone.html"]

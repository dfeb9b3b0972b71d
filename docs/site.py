"""Builds the site into build/site: the pages of this repository, and a reference from the docstrings.

`nox -s docs` runs it. Warnings of the generator are errors, and every link within the site is followed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import yaml

import zarr_s3_async as zs

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "build" / "pages"
SITE = ROOT / "build" / "site"
HOME = "https://github.com/zarr-s3-async/zarr-s3-async"

GROUPS: dict[str, tuple[str, ...]] = {
    "Start": ("README", "tutorial", "troubleshooting", "comparison", "migration"),
    "Guides": (
        "notebooks", "cli", "servers", "configuration", "iam", "tuning", "writers", "shards", "grids", "chunks",
        "values", "handles", "caching", "consistent", "streams", "loader", "blocking", "fastapi", "view", "metrics",
        "dask", "xarray", "zarr-python", "obstore", "web", "verify",
    ),
    "Extending": ("writing-a-store", "writing-a-codec", "writing-a-hook"),
    "What is promised": ("promises", "bugs", "SECURITY", "deprecation", "CHANGELOG"),
    "Beside others": ("benchmarks", "speed", "throttling", "interop", "peers"),
    "Inside": ("ARCHITECTURE", "CONTRIBUTING"),
}  # fmt: skip
"""Pages by group; those that are named nowhere stand under Guides."""
REFERENCE: dict[str, tuple[str, ...]] = {
    "Sessions and handles": (
        "Session", "SessionOptions", "Array", "Group", "View", "Indexer", "Explanation", "Tree", "open", "open_array",
        "open_group", "create_array", "create_group", "shared_session", "doctor", "Diagnosis", "Check",
    ),
    "Options": ("S3Config", "Limits", "CacheSize", "RetryPolicy", "HedgePolicy", "Credentials", "ArrayOptions"),
    "Streams, copies, loaders": (
        "BlockStream", "SliceStream", "WriteStream", "Block", "Progress", "map_chunks", "copy", "plan_copy", "CopyPlan",
        "BatchLoader", "Window", "LoaderReport", "LoaderCost",
    ),
}  # fmt: skip
MODULES: dict[str, tuple[str, ...]] = {
    "Without asyncio": ("blocking",),
    "FastAPI, other libraries, metrics": (
        "fastapi", "viewer", "adapters.dask", "adapters.xarray", "adapters.zarr", "adapters.obspec", "adapters.obstore",
        "adapters.torch", "metrics.prometheus", "metrics.otel", "metrics.logs",
    ),
    "For tests": ("testing",),
}  # fmt: skip


def main() -> None:
    """Write the pages, build, check."""
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.rmtree(SITE, ignore_errors=True)
    PAGES.mkdir(parents=True)
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        if page.name != "index.md":
            (PAGES / page.name).write_text(with_links(page.read_text(), page))
    shutil.copy(PAGES / "README.md", PAGES / "index.md")
    (PAGES / "README.md").unlink()
    for folder in ("images", "benchmarks", "loader"):
        if (ROOT / "docs" / folder).is_dir():
            shutil.copytree(ROOT / "docs" / folder, PAGES / folder)
    reference = write_reference()
    config = ROOT / "build" / "mkdocs.yml"
    config.write_text(yaml.safe_dump(configuration(reference), sort_keys=False))
    subprocess.run([sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(config)], check=True)
    if broken := broken_links(SITE):
        sys.exit("\n".join(["links that lead nowhere:", *broken]))
    print(f"{SITE}: {len(list(SITE.rglob('*.html')))} pages")


def with_links(text: str, page: Path) -> str:
    """The links of a page, made for the site: other pages lie beside it, and files of the repository are on the web."""

    def moved(match: re.Match[str]) -> str:
        target, sign, anchor = match[1].partition("#")
        for prefix in (f"{HOME}/blob/main/", f"{HOME}/tree/main/"):
            if target.startswith(prefix):
                target = (ROOT / target.removeprefix(prefix)).as_posix()
        raw = HOME.replace("github.com", "raw.githubusercontent.com") + "/main/"
        if target.startswith(raw):
            target = (ROOT / target.removeprefix(raw)).as_posix()
        if not target or target.startswith("https://"):
            return match[0]
        file = (page.parent / target).resolve()
        inside = file.relative_to(ROOT).as_posix()
        if inside in {"README.md", "docs/index.md"}:
            return f"](index.md{sign}{anchor})"
        if file.suffix == ".md":
            return f"]({file.name}{sign}{anchor})"
        if inside.startswith("docs/") and file.is_file():
            return f"]({inside.removeprefix('docs/')})"
        return f"]({HOME}/{'tree' if file.is_dir() else 'blob'}/main/{inside})"

    return re.sub(r"\]\(([^)\s]+)\)", moved, text)


def write_reference() -> list[dict[str, str]]:
    """A page per group of public names; what is in no group stands in the last ones."""
    named = {name for names in REFERENCE.values() for name in names}
    rest = [name for name in zs.__all__ if name not in named and not name.startswith("__")]
    errors = [name for name in rest if isinstance(getattr(zs, name), type) and issubclass(getattr(zs, name), Exception)]
    others = [name for name in rest if name not in errors]
    pages = []
    tables = [*REFERENCE.items(), *MODULES.items(), ("Errors", errors), ("Everything else", others)]
    for number, (title, names) in enumerate(tables):
        file = f"reference-{number}.md"
        entries = "\n\n".join(f"::: zarr_s3_async.{name}" for name in names)
        (PAGES / file).write_text(f"# {title}\n\n{entries}\n")
        pages.append({title: file})
    return pages


def configuration(reference: list[dict[str, str]]) -> dict[str, object]:
    """What the generator reads."""
    listed = {name for names in GROUPS.values() for name in names}
    others = sorted(page.stem for page in PAGES.glob("*.md") if page.stem not in listed and page.stem != "index")
    groups = {name: list(pages) for name, pages in GROUPS.items()}
    groups["Guides"] += [name for name in others if not name.startswith("reference-")]
    nav: list[dict[str, object]] = [
        {title: [f"{'index' if page == 'README' else page}.md" for page in pages]} for title, pages in groups.items()
    ]
    nav.insert(2, {"Reference": reference})
    handler = {
        "docstring_style": "google",
        "show_source": False,
        "members_order": "source",
        "filters": ["!^_"],
        "inherited_members": True,  # those of private base classes too
    }
    return {
        "site_name": "zarr-s3-async",
        "repo_url": HOME,
        "docs_dir": PAGES.name,
        "site_dir": SITE.name,
        "use_directory_urls": False,
        "theme": {"name": "material", "features": ["navigation.sections", "content.code.copy", "search.highlight"]},
        "markdown_extensions": ["tables", "toc", "pymdownx.highlight", "pymdownx.superfences"],
        "plugins": ["search", {"mkdocstrings": {"handlers": {"python": {"paths": [str(ROOT)], "options": handler}}}}],
        "nav": nav,
    }


class _Links(HTMLParser):
    """Targets of links and pictures, and the anchors, of one page."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See `HTMLParser`."""
        for name, value in attrs:
            if value and (tag, name) in {("a", "href"), ("img", "src")}:
                self.targets.append(value)
            elif value and name in {"id", "name"}:
                self.anchors.add(value)


def broken_links(site: Path) -> list[str]:
    """Links within the site that name a page or an anchor that is not there."""
    pages: dict[Path, _Links] = {}
    for file in site.rglob("*.html"):
        pages[file] = _Links()
        pages[file].feed(file.read_text())
    broken = []
    for file, found in pages.items():
        if file.name == "404.html":  # served at any depth: its links are absolute
            continue
        for target in found.targets:
            path, _, anchor = unquote(target).partition("#")
            if re.match(r"[a-z]+:", target) or path.startswith("/"):
                continue
            there = (file.parent / path).resolve() if path else file
            there = there / "index.html" if there.is_dir() else there
            missing_anchor = anchor and there in pages and anchor not in pages[there].anchors
            if not there.exists() or missing_anchor:
                broken.append(f"{file.relative_to(site)}: {target}")
    return sorted(set(broken))


if __name__ == "__main__":
    main()

"""The files of a release: citation, changelog, issue templates and workflows."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

import zarr_s3_async as zs

from .conftest import ROOT


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def test_the_citation_names_this_version() -> None:
    citation = load("CITATION.cff")
    assert citation["version"] == zs.__version__
    assert citation["license"] == "MIT"
    assert {"cff-version", "message", "title", "authors", "type"} <= set(citation)


def test_the_changelog_has_a_section_and_a_link_for_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[([^\]]+)\]", text, re.MULTILINE)
    assert headings[:2] == ["Unreleased", zs.__version__]
    assert set(re.findall(r"^\[([^\]]+)\]: https://", text, re.MULTILINE)) == set(headings)
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize("name", ["bug.yml", "wrong-data.yml", "idea.yml"])
def test_the_issue_templates_require_the_needed_information(name: str) -> None:
    form = load(f".github/ISSUE_TEMPLATE/{name}")
    assert {"name", "description", "body"} <= set(form)
    ids = [field["id"] for field in form["body"] if "id" in field]
    assert len(ids) == len(set(ids))
    if name != "idea.yml":
        assert {"program", "versions"} <= set(ids)


def test_the_workflow_publishes_the_tested_files_with_attestations_and_no_token() -> None:
    jobs = load(".github/workflows/release.yml")["jobs"]
    publish = jobs["publish"]
    assert publish["permissions"] == {"id-token": "write", "attestations": "write", "contents": "read"}
    assert set(publish["needs"]) == {"build", "artefact"}
    uses = [step.get("uses", "").partition("@")[0] for step in publish["steps"]]
    assert "actions/attest-build-provenance" in uses
    assert "actions/download-artifact" in uses
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text()


def test_the_nox_sessions_of_the_workflows_exist() -> None:
    from tests.docs.pages import functions

    texts = [path.read_text() for path in (ROOT / ".github/workflows").glob("*.yml")]
    commands = re.findall(r"nox -s ([\w-]+)", "".join(texts))
    assert "artefact" in commands
    assert [".ci/run" in text for text in texts].count(True) == 1
    assert set(commands) <= functions(ROOT / "noxfile.py")

"""The audit of the pins: what is not accepted by name, and what was not looked up, is a failure."""

import json

import pytest
from conftest import REPO, run

from scripts.audit_findings import judge, read_accepted

ACCEPTED = REPO / "scripts" / "audit_accepted.txt"


def finding(identifier, *aliases):
    return {"id": identifier, "aliases": list(aliases), "fix_versions": ["9.9"], "description": "…"}


def package(name, *findings, **more):
    return {"name": name, "version": "1.0", "vulns": list(findings), **more}


def test_a_finding_is_accepted_by_any_of_its_names_but_for_its_package_only():
    accepted = {("torch", "CVE-1"): "why"}
    found = {"dependencies": [package("Torch", finding("PYSEC-1", "CVE-1")), package("pillow", finding("CVE-1"))]}
    assert judge(found, accepted) == (["pillow 1.0: CVE-1, fixed in 9.9"], 1)


def test_a_package_that_was_not_looked_up_is_no_good_news():
    found = {"dependencies": [{"name": "torch", "skip_reason": "Dependency not found on PyPI"}]}
    assert judge(found, {}) == (["torch: not looked up: Dependency not found on PyPI"], 0)


def test_the_command_ends_as_it_found(tmp_path):
    results = {"clean.json": [package("torch")], "new.json": [package("torch", finding("CVE-0000-1"))]}
    for name, dependencies in results.items():
        (tmp_path / name).write_text(json.dumps({"dependencies": dependencies, "fixes": []}))
    (tmp_path / "torn.json").write_text("{")
    for name, status in (("clean.json", 0), ("new.json", 1), ("torn.json", 1), ("missing.json", 1)):
        done = run("-m", "scripts.audit_findings", tmp_path / name, ACCEPTED, check=False)
        assert done.returncode == status, name


def test_every_accepted_finding_has_a_reason_and_is_of_a_pinned_package():
    accepted = read_accepted(ACCEPTED)
    pins = (REPO / "scripts" / "constraints-cpu.txt").read_text() + (REPO / "requirement.txt").read_text()
    assert len(accepted) > 100
    for (name, identifier), reason in accepted.items():
        assert f"{name}==" in pins.replace("_", "-"), name
        assert identifier.startswith(("CVE-", "PYSEC-", "GHSA-")) and len(reason) > 10, identifier


def test_one_reason_may_stand_for_several_findings(tmp_path):
    path = tmp_path / "accepted.txt"
    path.write_text("Torch CVE-1,GHSA-2 a reason of many words\n")
    assert read_accepted(path) == {("torch", name): "a reason of many words" for name in ("CVE-1", "GHSA-2")}


def test_an_accepted_line_without_a_reason_is_named(tmp_path):
    path = tmp_path / "accepted.txt"
    path.write_text("# comment\n\ntorch CVE-1\n")
    with pytest.raises(ValueError, match=r"line 3: expected package, id and reason"):
        read_accepted(path)

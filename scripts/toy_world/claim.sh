#!/usr/bin/env bash
# The claim that stage 3 calibrates the confidence, over several seeds: trains each from random
# weights with train_all.sh, evaluates, and checks and draws the outcome with claim.py.
#
#   bash scripts/toy_world/claim.sh            about 100 minutes on 2 idle cores, 18 GB
#
# Interrupted, start it again: what is finished is kept.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail
repo="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)"

seeds="${seeds:-0 1 2}"
work="${work:-$repo/output/claim}"
plot="${plot:-$repo/images/stage3_calibration.png}"
curves="${curves:-$repo/images/stage3_curves.png}"    # training curves of the first seed
test_samples="${test_samples:-90}"    # per task
at_once="${at_once:-2}"               # seeds at a time, one core each
{ # read whole before it runs
# shellcheck source-path=SCRIPTDIR source=seeds.sh
source "$repo/scripts/toy_world/seeds.sh"
find_python
export threads=1
mkdir -p "$work"
work="$(realpath -- "$work")"
read -r -a numbers <<< "$seeds"
folders=("${numbers[@]/#/$work/seed_}")
runs=()
for seed in "${numbers[@]}"; do runs+=("test_samples=$test_samples" "$seed" "$work/seed_$seed"); done
train_seeds "${runs[@]}"
cd "$repo"
cp -- "${folders[0]}/runs/emocaliber/training_curves.png" "$curves"
"$python" -m scripts.toy_world.claim "${folders[@]}" --plot "$plot"
exit 0
}

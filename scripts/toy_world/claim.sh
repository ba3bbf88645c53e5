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
figure="${figure:-$repo/images/stage3_calibration.png}"
curves="${curves:-$repo/images/stage3_curves.png}"    # training curves of the first seed
test_samples="${test_samples:-90}"    # per task
at_once="${at_once:-2}"               # seeds at a time, one core each
{ # read whole before it runs
if [[ -z "${python:-}" ]]; then
  bash "$repo/scripts/setup.sh" --cpu
  python="${venv:-$repo/.venv}/bin/python"
fi
export python test_samples threads=1
mkdir -p "$work"
work="$(realpath -- "$work")"
read -r -a numbers <<< "$seeds"
folders=("${numbers[@]/#/$work/seed_}")
echo "Seeds $seeds, $at_once at a time; what each is doing: $work/seed_<n>.log"
# shellcheck disable=SC2016  # expanded by the inner bash
printf '%s\0' "${numbers[@]}" | xargs -0 -P "$at_once" -I '{}' env seed='{}' work="$work/seed_{}" \
  bash -c 'echo "seed $seed: started"; bash "$1" > "$work.log" 2>&1 || { echo "seed $seed failed; $work.log:" >&2; tail -n 20 "$work.log" >&2; exit 1; }; echo "seed $seed: done"' \
  _ "$repo/scripts/toy_world/train_all.sh"
cd "$repo"
cp -- "${folders[0]}/runs/emocaliber/training_curves.png" "$curves"
"$python" -m scripts.toy_world.claim "${folders[@]}" --figure "$figure"
exit 0
}

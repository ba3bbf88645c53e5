#!/usr/bin/env bash
# Stage 3 under each rule of the reward, from the cold starts of claim.sh: what does each make of confidence and answers?
#
#   bash scripts/toy_world/claim.sh            first: the cold starts of three seeds
#   bash scripts/toy_world/reward_rules.sh
#
# Hotter and longer than the claim's stage 3, a constant rate and a weak pull to the reference, so that the rules have time to part.
# Interrupted, start it again: what is finished is kept.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail
repo="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)"

rules="${rules:-log brier rlcr}"
seeds="${seeds:-0 1 2}"
claim="${claim:-$repo/output/claim}"
work="${work:-$repo/output/reward_rules}"
at_once="${at_once:-2}" # trainings at a time, one core each
export learning_rate="${learning_rate:-3e-4}" kl_coefficient="${kl_coefficient:-0.01}"
{ # read whole before it runs
if [[ -z "${python:-}" ]]; then
  bash "$repo/scripts/setup.sh" --cpu
  python="${venv:-$repo/.venv}/bin/python"
fi
export python threads=1 evaluated=emocaliber
claim="$(realpath -- "$claim")"
mkdir -p "$work"
work="$(realpath -- "$work")"
read -r -a numbers <<< "$seeds"
read -r -a names <<< "$rules"
runs=()
for rule in "${names[@]}"; do
  for seed in "${numbers[@]}"; do
    folder="$work/$rule/seed_$seed" start="$claim/seed_$seed"
    if [[ ! -e "$start/models/cold_start/finished" ]]; then
      echo "$start/models/cold_start: no finished cold start; first: bash scripts/toy_world/claim.sh" >&2
      exit 2
    fi
    mkdir -p "$folder/models" "$folder/results"
    ln -sfn "$start/data" "$folder/data"
    for model in base scaffold cold_start; do ln -sfn "$start/models/$model" "$folder/models/$model"; done
    ln -sfn "$start/results/cold_start" "$folder/results/cold_start"
    runs+=("$rule" "$seed" "$folder")
  done
done
echo "${#names[@]} rules, seeds $seeds, $at_once at a time; what each is doing: $work/<rule>/seed_<n>.log"
# shellcheck disable=SC2016  # expanded by the inner bash
printf '%s\0' "${runs[@]}" | xargs -0 -n 3 -P "$at_once" bash -c '
  echo "$1, seed $2: started"
  rule="$1" seed="$2" work="$3" bash "$0" > "$3.log" 2>&1 || { echo "$1, seed $2 failed; $3.log:" >&2; tail -n 20 "$3.log" >&2; exit 1; }
  echo "$1, seed $2: done"' "$repo/scripts/toy_world/train_all.sh"
cd "$repo"
"$python" -m scripts.toy_world.reward_rules "$work" --rules "${names[@]}" --seeds "${numbers[@]}"
exit 0
}

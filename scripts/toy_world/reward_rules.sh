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
# shellcheck source-path=SCRIPTDIR source=seeds.sh
source "$repo/scripts/toy_world/seeds.sh"
find_python
export threads=1 evaluated=emocaliber
claim="$(realpath -- "$claim")"
mkdir -p "$work"
work="$(realpath -- "$work")"
read -r -a numbers <<< "$seeds"
read -r -a names <<< "$rules"
runs=()
for rule in "${names[@]}"; do
  for seed in "${numbers[@]}"; do
    folder="$work/$rule/seed_$seed" start="$claim/seed_$seed"
    start_from "$start" "$folder" base scaffold cold_start
    ln -sfn "$start/results/cold_start" "$folder/results/cold_start"
    runs+=("rule=$rule" "$seed" "$folder")
  done
done
train_seeds "${runs[@]}"
cd "$repo"
"$python" -m scripts.toy_world.reward_rules "$work" --rules "${names[@]}" --seeds "${numbers[@]}"
exit 0
}

#!/usr/bin/env bash
# Two recipes for a confidence, side by side on the toy world: the paper's three stages, and stages 1 and 2 with the
# confidence read where the response first names its answer.
#
#   bash scripts/toy_world/claim.sh            first: the paper's recipe, three seeds
#   bash scripts/toy_world/recipes.sh          about 35 minutes on 2 idle cores
#
# Interrupted, start it again: what is finished is kept.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail
repo="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)"

seeds="${seeds:-0 1 2}"
claim="${claim:-$repo/output/claim}"
work="${work:-$repo/output/recipes}"
plot="${plot:-$repo/images/recipes.png}"
at_once="${at_once:-2}" # trainings at a time, one core each
export stage2_epochs="${stage2_epochs:-3}" # there is no stage 3: its time goes into stage 2
export inference_args="--candidate_probabilities --candidate_place first_mention"
{ # read whole before it runs
# shellcheck source-path=SCRIPTDIR source=seeds.sh
source "$repo/scripts/toy_world/seeds.sh"
find_python
export threads=1 evaluated=cold_start
claim="$(realpath -- "$claim")"
mkdir -p "$work"
work="$(realpath -- "$work")"
read -r -a numbers <<< "$seeds"
folders=("${numbers[@]/#/$work/seed_}")
runs=()
for seed in "${numbers[@]}"; do
  folder="$work/seed_$seed" start="$claim/seed_$seed"
  if [[ ! -e "$start/results/emocaliber/merged.jsonl" ]]; then
    echo "$start/results/emocaliber: no evaluated run; first: bash scripts/toy_world/claim.sh" >&2
    exit 2
  fi
  start_from "$start" "$folder" base scaffold
  runs+=("stage3=false" "$seed" "$folder")
done
train_seeds "${runs[@]}"
cd "$repo"
"$python" -m scripts.toy_world.recipes "${folders[@]}" --claim "$claim" --plot "$plot"
for seed in "${numbers[@]}"; do
  "$python" -m inference.compare "$claim/seed_$seed/results/emocaliber" "$work/seed_$seed/results/cold_start" \
    --confidence verbalized "first-mention probability" > "$work/seed_$seed.compared.txt"
  echo "seed $seed, differences with intervals: $work/seed_$seed.compared.txt"
done
exit 0
}

#!/usr/bin/env bash
# Every benchmark, on this machine, in one go; then the table of scripts/maintenance/README.md. About half an hour on 2 cores.
#
#   bash scripts/maintenance/benchmark/run.sh
#   evaluation_rows=8032 large_rows=80000 conversion_rows=14346 checking_rows=2000 \
#       bash scripts/maintenance/benchmark/run.sh    # a short one
#
# Ratios are what counts: both sides run in turns. Nothing else should run on the machine.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail
repo="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../.." && pwd)"

# Settings. The environment beats what stands here.
python="${python:-}"                                      # empty: the set-up environment
evaluation_rows="${evaluation_rows:-8032 80000 800000}"
conversion_rows="${conversion_rows:-14346 86067}"
large_rows="${large_rows:-1000000}"                       # evaluated without the published procedure
checking_rows="${checking_rows:-2000 86067}"
inference_samples="${inference_samples:-256}"
report_rows="${report_rows:-8032}"

{ # read whole before it runs: bash would otherwise follow an edit of this file in mid-run
cd "$repo"
python="${python:-$(bash scripts/setup.sh --print-python vllm)}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" OMP_WAIT_POLICY=PASSIVE
rm -f output/benchmark/results.jsonl
read -r -a evaluation <<< "$evaluation_rows"
read -r -a conversion <<< "$conversion_rows"
read -r -a checking <<< "$checking_rows"

"$python" -m scripts.maintenance.benchmark.inference --samples "$inference_samples"
"$python" -m scripts.maintenance.benchmark.evaluation --rows "${evaluation[@]}"
"$python" -m scripts.maintenance.benchmark.evaluation --rows "$large_rows" --alone
"$python" -m scripts.maintenance.benchmark.reward
"$python" -m scripts.maintenance.benchmark.conversion --rows "${conversion[@]}"
"$python" -m scripts.maintenance.benchmark.checking --rows "${checking[@]}"
"$python" -m scripts.maintenance.benchmark.report --rows "$report_rows"
"$python" -m scripts.maintenance.benchmark.table
exit 0
}

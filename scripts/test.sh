#!/usr/bin/env bash
# Run the tests in the CPU environment, which is set up first if it must be.
#
#   bash scripts/test.sh quick        tests/unit: no process, no torch, about a minute
#   bash scripts/test.sh              these and tests/integration: every engine and framework for real
#   bash scripts/test.sh faults       faults tried: kills, full disks, torn files, endpoints that misbehave
#   bash scripts/test.sh security     hostile checkpoints, archives, names and texts; secrets
#   bash scripts/test.sh long         the long runs: building VEC-CoT, the toy training, lmms-eval, simulated intervals
#   bash scripts/test.sh paper        on the paper's versions, in .venv-paper: main job, engines, the three stages, tables
#   bash scripts/test.sh -k resume    further words go to pytest: bash scripts/test.sh quick -k resume
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail

repo="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$repo"
layer="${1:-}"
track=cpu
venv="${venv:-$repo/.venv}"
case "$layer" in
  quick) set -- tests/unit "${@:2}" ;;
  faults | security | long) set -- -m "$layer" "${@:2}" ;;
  paper)
    track=paper-cpu
    venv="$repo/.venv-paper"
    set -- tests/unit/test_evaluate.py tests/integration/test_{templates,setup,job,engines,pipeline,vllm_cpu}.py \
      tests/integration/test_{sft,grpo,grpo_template,reward_in_verl,one_gpu}.py "${@:2}"
    ;;
esac
venv="$venv" bash scripts/setup.sh "--$track"
if [[ "$layer" != quick && "$layer" != paper ]]; then
  bash scripts/setup.sh --browser || echo "test: without Chromium the tests of pages that it shows are skipped" >&2
fi
# One thread each: tests share the machine, and spinning OpenMP threads make each other slow.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0
export PATH="$venv/bin:$PATH" # tests call the linters by name
# Two processes, a file's tests in one: most of the time is single-threaded start-up of engines. In the files'
# order: the two that share one training would otherwise run side by side at the end, one waiting for the other.
# In a folder with a space Python gets a name without one: the Ray tests start workers by this Python's path.
exec "$(bash scripts/python_for_ray.sh "$venv/bin/python")" -m pytest --numprocesses "${test_processes:-2}" --dist loadfile --no-loadscope-reorder "$@"

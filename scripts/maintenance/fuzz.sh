#!/usr/bin/env bash
# Fuzz the parsers: bash scripts/maintenance/fuzz.sh [seconds per target]     (all targets: six times as long)
#
#   targets="images record" bash scripts/maintenance/fuzz.sh 600
#
# Prints the number of executions of each target; an input that breaks one ends it and stays in the work folder
# as crash-*. Corpora are kept there, too, and the next start goes on from them.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail
repo="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)"

# Settings. Environment variables take precedence.
python="${python:-}"                  # empty: the set-up environment
seconds="${1:-${seconds:-60}}"        # per target
targets="${targets:-response tag reward record images results}"
work="${work:-$repo/output/fuzz}"     # corpora, logs, inputs that broke something
atheris="${atheris:-atheris==3.0.0}"  # has no dependencies, and is installed beside the environment

cd "$repo"
python="${python:-$(bash scripts/setup.sh --print-python transformers)}"
mkdir -p "$work"
if [[ ! -d "$work/lib/atheris" ]]; then
    "$python" -m pip install --quiet --no-deps --target "$work/lib" "$atheris"
fi
export PYTHONPATH="$work/lib${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

failed=0
for target in $targets; do
    log="$work/$target.log"
    if ! "$python" -W ignore tests/robustness/fuzz.py "$target" "$work/$target" -max_total_time="$seconds" \
        -artifact_prefix="$work/$target-" >"$log" 2>&1; then
        echo "$target: broken by an input which is in $work/$target-crash-*; see $log" >&2
        failed=1
        continue
    fi
    runs="$(sed -n 's/^Done \([0-9]*\) runs in \([0-9]*\) second.*/\1 executions in \2 s/p' "$log")"
    echo "$target: ${runs:-no count in $log}"
done
exit "$failed"

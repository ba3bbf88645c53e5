#!/usr/bin/env bash
# Rebuild the toy checkpoint: generate data, build a random model, stage 1, stage 2, export.
# Stages 1 and 2 are the project's own templates, run by real ms-swift on CPU.
#
#   bash scripts/toy_world/build_checkpoint.sh        about 20 minutes on 2 idle cores
#
# Interrupted, start it again: finished parts are kept. `checkpoint=…` writes it elsewhere.
set -euo pipefail

repo="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)"
cd "$repo"

work="${work:-$repo/output/toy_world}"                       # data, logs and training checkpoints
checkpoint="${checkpoint:-$repo/scripts/toy_world/checkpoint}" # the result
stage1_samples="${stage1_samples:-32000}"
stage2_samples="${stage2_samples:-16000}"
seed="${seed:-0}"
{ # read whole before it runs: bash would otherwise follow an edit of this file in mid-run
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"

if [[ -z "${python:-}" ]]; then
  bash scripts/setup.sh --cpu
  python="$repo/.venv/bin/python"
fi
export python PYTHONPATH="$repo" HF_HUB_OFFLINE=1

data="$work/data"
if [[ ! -s "$data/stage1.jsonl" || ! -s "$data/stage2.jsonl" ]]; then
  "$python" -m scripts.toy_world.generate --output_dir "$data" --seed "$seed" \
    --stage1 "$stage1_samples" --stage2 "$stage2_samples"
fi
if [[ ! -s "$work/base/config.json" ]]; then
  "$python" -m scripts.toy_world.build_model --corpus "$data/stage1.jsonl" "$data/stage2.jsonl" \
    --output_dir "$work/base" --seed "$seed"
fi

# One CPU process, batch 32; from random weights the vision tower has to learn too.
export use_cpu=true batch_size="${batch_size:-32}" accumulation=1 freeze_vit=false freeze_aligner=false
export workers=0 split_dataset_ratio=0 logging_steps="${logging_steps:-20}" save_steps="${save_steps:-250}"
export MIN_PIXELS=3136 MAX_PIXELS=12544
newest() { find "$1" -maxdepth 1 -name 'checkpoint-*' | sort -V | tail -n 1; }

stage() { # NUMBER MODEL DATASET OUTPUT_DIR LEARNING_RATE
  if [[ ! -e "$4/finished" ]]; then
    model="$2" dataset="$3" output_dir="$4" learning_rate="$5" swift_args="--seed $seed" \
      bash "$repo/train/step$1_example.sh"
    touch "$4/finished"
  fi
}
stage 1 "$work/base" "$data/stage1.jsonl" "$work/scaffold" 2e-3
stage 2 "$(newest "$work/scaffold")" "$data/stage2.jsonl" "$work/cold_start" 1e-3

"$python" -m scripts.toy_world.export_checkpoint --model "$(newest "$work/cold_start")" --output_dir "$checkpoint"
exit 0
}

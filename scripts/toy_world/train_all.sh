#!/usr/bin/env bash
# The whole training on the toy world, from random weights, without a GPU: stages 1, 2 and 3 by the
# templates in train/, then inference and evaluation of each stage's model, then one table.
#
#   bash scripts/toy_world/train_all.sh                          about 35 minutes on 2 idle cores
#   seed=1 work=output/toy_world_1 bash scripts/toy_world/train_all.sh
#   ship=true bash scripts/toy_world/train_all.sh                and make the result the shipped checkpoint
#
# Interrupted, start it again: finished parts are kept, an unfinished stage resumes from its last
# checkpoint. All of it lands in $work: data/, logs/, runs/ (training checkpoints), models/, results/.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail
repo="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)"

# Settings. Environment variables take precedence.
work="${work:-$repo/output/toy_world}"
seed="${seed:-0}"
stage1_samples="${stage1_samples:-19200}"       # 1200 steps of 16
stage2_samples="${stage2_samples:-9600}"        # 600 steps of 16
stage2_epochs="${stage2_epochs:-1}"
confidence_from="${confidence_from:-taught}"    # stage 2's; counted: the scaffold's own successes, K answers per image
counted_samples="${counted_samples:-10}"        # K
counted_images="${counted_images:-2400}"        # seen as often as stage2_samples needs
stage3_samples="${stage3_samples:-1440}"       # 45 steps of 32 prompts, 4 responses each
validation_samples="${validation_samples:-160}" # prompts that stage 3 is validated on
test_samples="${test_samples:-60}"              # per task
stage1_learning_rate="${stage1_learning_rate:-2e-3}" stage2_learning_rate="${stage2_learning_rate:-1e-3}"
save_steps="${save_steps:-250}"                 # of stages 1 and 2
sft_batch_size="${sft_batch_size:-16}"          # of stages 1 and 2, over all processes
stage3="${stage3:-true}"                        # false: stages 1 and 2 alone
stage3_start="${stage3_start:-}"                # model folder that stage 3 starts from; empty: stage 2's result
evaluated="${evaluated:-scaffold cold_start emocaliber}" # models that are inferred and evaluated
threads="${threads:-2}"                         # cores to use; 1 leaves room for a second run
ship="${ship:-false}"
{ # read whole before it runs: bash would otherwise follow an edit of this file in mid-run
cd "$repo"
if [[ -z "${python:-}" ]]; then
  bash scripts/setup.sh --cpu
  python="${venv:-$repo/.venv}/bin/python"
fi
work="$(realpath -m -- "$work")"
export python PYTHONPATH="$repo" HF_HUB_OFFLINE=1
export MIN_PIXELS=3136 MAX_PIXELS=12544
data="$work/data" models="$work/models"
mkdir -p "$work/logs" "$models"

say() { printf '\n[%02d:%02d] %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$1"; }
# One progress line on the terminal, everything in the log; a failure shows the log's end.
follow() { # NAME COMMAND...
  local name="$1"
  shift
  "$@" 2>&1 | "$python" -m scripts.toy_world.follow --log "$work/logs/$name.log" --title "$name"
}
newest() { find "$1" -maxdepth 1 -name "$2" | sort -V | tail -n 1; }

say "Toy world, seed $seed: data in $data"
if [[ ! -e "$data/finished" ]]; then
  "$python" -m scripts.toy_world.generate --output_dir "$data" --seed "$seed" --test "$test_samples" \
    --stage1 "$stage1_samples" --stage2 "$stage2_samples" --stage3 $((stage3_samples + validation_samples))
  head -n "$stage3_samples" "$data/stage3.jsonl" > "$data/train.jsonl"
  tail -n "$validation_samples" "$data/stage3.jsonl" > "$data/validation.jsonl"
  for split in train validation; do
    "$python" -m scripts.data.convert verl "$data/$split.jsonl" "$data/$split.parquet" --split "$split" \
      --min_pixels "$MIN_PIXELS" --max_pixels "$MAX_PIXELS"
  done
  touch "$data/finished"
fi
if [[ ! -e "$models/base/finished" ]]; then
  "$python" -m scripts.toy_world.build_model --corpus "$data/stage1.jsonl" "$data/stage2.jsonl" \
    --output_dir "$models/base" --seed "$seed"
  touch "$models/base/finished"
fi

sft() { # STAGE START RESULT DATASET LEARNING_RATE
  local run="$work/runs/$3"
  say "Stage $1: $2 -> $3"
  if [[ ! -e "$models/$3/finished" ]]; then
    # From random weights the vision tower has to learn, too.
    follow "stage$1" env model="$models/$2" dataset="$4" output_dir="$run" learning_rate="$5" \
      use_cpu=true cpu_processes="$threads" batch_size=$((sft_batch_size / threads)) accumulation=1 OMP_NUM_THREADS=1 \
      freeze_vit=false freeze_aligner=false workers=0 split_dataset_ratio=0 save_steps="$save_steps" \
      bash "train/step$1_example.sh" --seed "$seed"
    "$python" -m scripts.toy_world.export_checkpoint --model "$(newest "$run" 'checkpoint-*')" --output_dir "$models/$3"
    touch "$models/$3/finished"
  fi
}
sft 1 base scaffold "$data/stage1.jsonl" "$stage1_learning_rate"
stage2_data="$data/stage2.jsonl" epochs="$stage2_epochs"
if [[ "$confidence_from" == counted ]]; then
  say "Stage 2's confidence: scaffold, $counted_samples answers to each of $counted_images images"
  "$python" -m scripts.toy_world.counted_confidence "$stage2_data" --scaffold "$models/scaffold" \
    --output_dir "$work/counted" --images "$counted_images" --samples "$counted_samples" --seed "$seed"
  stage2_data="$work/counted/stage2.jsonl" epochs=$((stage2_samples / counted_images))
fi
epochs="$epochs" sft 2 scaffold cold_start "$stage2_data" "$stage2_learning_rate"

if [[ "$stage3" == true ]]; then
  say "Stage 3: cold_start -> emocaliber"
  run="$work/runs/emocaliber"
  if [[ ! -e "$models/emocaliber/finished" ]]; then
    follow stage3 env model="${stage3_start:-$models/cold_start}" dataset="$data/train.parquet" \
      validation="$data/validation.parquet" output_dir="$run" threads="$threads" seed="$seed" \
      bash scripts/toy_world/stage3_cpu.sh
    "$python" -m scripts.merge_checkpoint "$run" --output_dir "$run/merged"
    "$python" -m scripts.toy_world.export_checkpoint --model "$run/merged" --output_dir "$models/emocaliber"
    touch "$models/emocaliber/finished"
  fi
  "$python" -m scripts.training_curves "$run" --title "toy world, seed $seed"
fi

for name in $evaluated; do
  say "Inference and evaluation: $name"
  env checkpoint="$models/$name" data_path="$data/test.jsonl" output_path="$work/results/$name" n_gpu=1 \
    min_pixels="$MIN_PIXELS" max_pixels="$MAX_PIXELS" max_new_tokens=128 seed="$seed" \
    OMP_NUM_THREADS="$threads" OMP_WAIT_POLICY=PASSIVE \
    bash inference/infer_and_eval_example.sh > "$work/logs/evaluate_$name.log"
done
say "The stages side by side"
"$python" -m scripts.toy_world.stages --work "$work"
runs=()
for name in scaffold cold_start emocaliber; do
  if [[ -e "$work/results/$name/merged.jsonl" ]]; then runs+=("$work/results/$name"); fi
done
"$python" -m scripts.toy_world.reasoning "${runs[@]}"
if [[ "$ship" == true ]]; then
  "$python" -m scripts.toy_world.export_checkpoint --model "$models/emocaliber" \
    --output_dir "$repo/scripts/toy_world/checkpoint"
fi
exit 0
}

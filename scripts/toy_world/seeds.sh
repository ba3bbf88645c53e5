# shellcheck shell=bash disable=SC2154
# What the commands that train several seeds have in common: the environment, and train_all.sh for several folders at
# a time. Not run alone: they set repo and at_once and source this file.

# Sets and exports $python; makes the CPU environment where none is given.
find_python() {
  if [[ -z "${python:-}" ]]; then
    bash "$repo/scripts/setup.sh" --cpu
    python="${venv:-$repo/.venv}/bin/python"
  fi
  export python
}

# train_all.sh for each three arguments (a setting as name=value, seed, work folder), $at_once at a time; each writes
# <work folder>.log.
train_seeds() {
  echo "$(($# / 3)) trainings, $at_once at a time; what each is doing: <its folder>.log"
  # shellcheck disable=SC2016  # expanded by the inner bash
  printf '%s\0' "$@" | xargs -0 -n 3 -P "$at_once" bash -c '
    echo "$3: started"
    env "$1" seed="$2" work="$3" bash "$0" > "$3.log" 2>&1 ||
      { echo "$3 failed; $3.log:" >&2; tail -n 20 "$3.log" >&2; exit 1; }
    echo "$3: done"' "$repo/scripts/toy_world/train_all.sh"
}

# start_from SEED_FOLDER_OF_CLAIM FOLDER MODEL...: links data and finished models of an earlier training into a new folder.
start_from() {
  local start="$1" folder="$2" model
  mkdir -p "$folder/models" "$folder/results"
  ln -sfn "$start/data" "$folder/data"
  for model in "${@:3}"; do
    if [[ ! -e "$start/models/$model/finished" ]]; then
      echo "$start/models/$model: no finished model; first: bash scripts/toy_world/claim.sh" >&2
      return 2
    fi
    ln -sfn "$start/models/$model" "$folder/models/$model"
  done
}

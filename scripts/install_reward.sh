#!/usr/bin/env bash
# Copy train/cus_reward.py into verl, or take it out again.
#
#   bash scripts/install_reward.sh VERL_PATH            VERL_PATH: a checkout, or the installed package's folder
#   bash scripts/install_reward.sh --undo VERL_PATH
#
# Makes verl's default reward take the data source "emocaliber". Doing it twice changes nothing; --undo
# restores verl to the byte. train/step3_example.sh names the file by verl's custom reward path instead;
# with reward_path=null it trains on the copy.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail

repo="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
undo=false
if [[ "${1:-}" == --undo ]]; then
  undo=true
  shift
fi
verl_path="${1:?usage: bash scripts/install_reward.sh [--undo] VERL_PATH}"
for package in "$verl_path/verl" "$verl_path"; do
  if [[ -f "$package/utils/reward_score/__init__.py" ]]; then
    target="$package/utils/reward_score"
    break
  fi
done
[[ -n "${target:-}" ]] || {
  echo "No verl in $verl_path: expected verl/utils/reward_score/__init__.py there." >&2
  exit 2
}

begin="    # emocaliber: begin"
end="    # emocaliber: end"
init="$target/__init__.py"
trap 'rm -f -- "$init.new"' EXIT
cp -p -- "$init" "$init.new" # with its permissions
if $undo; then
  rm -f -- "$target/cus_reward.py" "$target"/__pycache__/cus_reward.*.pyc
  sed "/^$begin\r*\$/,/^$end\r*\$/d" "$init" > "$init.new" && mv -- "$init.new" "$init"
  echo "Took cus_reward.py out of $target"
  exit 0
fi
unknown() { # FILE: WHAT IS WRONG
  echo "$1: a verl that is not known here (0.4 to 0.9 are). train/step3_example.sh needs no copy." >&2
  exit 2
}
version="$(cat -- "$package/version/version" 2> /dev/null || true)"
[[ "$version" =~ ^0\.[4-9]\. ]] || unknown "$package/version/version: ${version:-no version}"
if ! grep -qF "$begin" "$init"; then
  first='    if data_source == "openai/gsm8k":'
  # Git may have checked the file out with CRLF: its line ends are kept.
  awk -v first="$first" -v begin="$begin" -v end="$end" '
    { line = $0; cr = sub(/\r$/, "", line) ? "\r" : "" }
    line == first && !found {
      found = 1
      print begin cr
      print "    if data_source == \"emocaliber\":" cr
      print "        from . import cus_reward" cr
      print cr
      print "        return cus_reward.compute_score(solution_str, ground_truth, data_source, extra_info)" cr
      print end cr
    }
    { print }
    END { exit !found }
  ' "$init" > "$init.new" || unknown "$init: expected a line $first"
  mv -- "$init.new" "$init"
fi
cp -- "$repo/train/cus_reward.py" "$target/cus_reward.py"
echo "cus_reward.py is in $target"

# How the templates start a trainer and what they say when it fails. Sourced by sft.sh and step3_example.sh:
#   launch OUTPUT_DIR COMMAND...
# Ends with the trainer's exit status. A trainer that cannot write its checkpoint ends in a page of
# traceback that does not say why: the disk is looked at here.
# shellcheck shell=bash

launch() {
  local output_dir="$1" status=0 free needed
  shift
  "$@" &
  trainer=$!
  trap 'kill -TERM "$trainer" 2> /dev/null' INT TERM
  while :; do # a signal ends wait before the trainer has ended
    if wait "$trainer"; then status=0; else status=$?; fi
    kill -0 "$trainer" 2> /dev/null || break
  done
  if ((status)); then
    free="$(df --output=avail --block-size=1M -- "$output_dir" | tail -n 1)"
    needed="$(find "$output_dir" -maxdepth 1 \( -name 'checkpoint-*' -o -name 'global_step_*' \) -exec du -sm -- {} + |
      sort -n | tail -n 1 | cut -f 1)"
    if ((free < ${needed:-1})); then
      echo "The training ended with status $status, and the disk of $output_dir is full ($free MB are left)." \
        "Complete checkpoints are kept: make room and start the same command again." >&2
    fi
  fi
  exit "$status"
}

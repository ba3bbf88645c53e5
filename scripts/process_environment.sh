#!/usr/bin/env bash
# What all processes of a template have in common. Not run
# alone: the templates set python and source this file.
# shellcheck disable=SC2154  # python: set by them

# Modules come from PYTHONPATH and the environment, never from the folder that a template is started in.
export PYTHONSAFEPATH=1
# A notebook's MPLBACKEND names a module of the notebook's own environment. Plots are written to files here.
export MPLBACKEND=agg

# Python 3.10 does not know PYTHONSAFEPATH.
for name in inference scripts swift verl accelerate; do
  for taken in "$name" "$name.py"; do
    if [[ -e "$taken" && ! . -ef "$(dirname -- "${BASH_SOURCE[0]}")/.." ]] &&
      "$python" -c 'import sys; sys.exit(sys.version_info >= (3, 11))'; then
      echo "$PWD/$taken would run in place of the module $name: start in another folder, or with Python 3.11." >&2
      exit 2
    fi
  done
done
unset name taken

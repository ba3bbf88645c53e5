#!/usr/bin/env bash
# Print a Python that Ray can start its workers with. Usage: bash scripts/python_for_ray.sh PYTHON
#
# Ray starts them by an unquoted path: an environment in a folder with a space gets a name without
# one, a link in the temporary folder.
set -euo pipefail

python="${1:?usage: bash scripts/python_for_ray.sh PYTHON}"
prefix="$("$python" -c 'import sys; print(sys.prefix)')"
if [[ "$prefix" == *[[:space:]]* ]]; then
  link="$(mktemp -d)/environment"
  ln -s -- "$prefix" "$link"
  python="$link/bin/python"
fi
echo "$python"

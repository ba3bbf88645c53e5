#!/usr/bin/env bash
# Print the path of a Python that Ray can start its workers with. Usage: bash scripts/python_for_ray.sh PYTHON
#
# Ray starts them by an unquoted path: an environment in a folder with a space gets a name without
# one, a link in the temporary folder.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail

python="${1:?usage: bash scripts/python_for_ray.sh PYTHON}"
prefix="$("$python" -c 'import sys; print(sys.prefix)')"
python="$("$python" -c 'import sys; print(sys.executable)')"
if [[ "$prefix" == *[[:space:]]* ]]; then
  link="$(mktemp -d)/environment"
  ln -s -- "$prefix" "$link"
  python="$link/bin/python"
fi
echo "$python"

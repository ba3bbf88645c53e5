#!/usr/bin/env bash
# Set up the environment at .venv. Nothing outside the repository is changed, except that on a
# Debian or Ubuntu without python3-venv, libnuma1 or libgomp1, run as root, these are installed
# (and Chromium, when the tests are run).
#
#   bash scripts/setup.sh              GPU environment if nvidia-smi finds one, else CPU
#   bash scripts/setup.sh --gpu        the paper's pins (requirement.txt) but for flash_attn: all that inference needs
#   bash scripts/setup.sh --flash-attn flash_attn, too: builds many minutes, wants nvcc; MAX_JOBS=4 bounds its memory
#   bash scripts/setup.sh --cpu        everything on CPU: inference, training, tests (8.5 GB)
#   bash scripts/setup.sh --eval-only  evaluation only, no torch (0.5 GB)
#   bash scripts/setup.sh --browser    Chromium, which only the tests of pages need
#   bash scripts/setup.sh --print-python ENGINE
#       print a Python that can run ENGINE (vllm, transformers, openai, ray): the running one if
#       it has what is needed, otherwise .venv's, which is set up first if it must be
#
# A second call finds the finished environment and returns at once.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail

repo="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${venv:-$repo/.venv}"
base_python="${base_python:-}" # a Python 3.11 (3.10 and 3.12 may do); empty: looked for

say() { echo "setup: $*" >&2; }

has_gpu() { command -v nvidia-smi > /dev/null && nvidia-smi -L > /dev/null 2>&1; }

find_python() {
  local candidate
  for candidate in "$base_python" python3.11 python3 python3.12 python3.10; do
    if [[ -n "$candidate" ]] && command -v "$candidate" > /dev/null &&
      "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))'; then
      echo "$candidate"
      return
    fi
  done
  say "no Python 3.10 to 3.12 found. Install Python 3.11 (Debian 12: apt-get install python3 python3-venv),"
  say "or name one: base_python=/path/to/python3.11 bash scripts/setup.sh"
  exit 2
}

need_package() { # PACKAGE WHY CHECK…: install a Debian package unless the command CHECK succeeds
  local package="$1" why="$2"
  shift 2
  "$@" 2> /dev/null && return
  if [[ "$(id -u)" == 0 ]] && command -v apt-get > /dev/null; then
    say "installing $package ($why)"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package"; } >&2
  else
    say "$package is missing ($why). Run: sudo apt-get install $package"
    exit 2
  fi
}

make_venv() { # the bare environment, with uv in it
  [[ -x "$venv/bin/uv" ]] && return
  local python
  python="$(find_python)"
  need_package "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" \
    "Python makes no environments without it" "$python" -c 'import ensurepip, venv'
  say "making $venv with $("$python" --version)"
  "$python" -m venv "$venv" >&2
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv >&2
}

install() { # uv pip install into the environment
  "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --override scripts/requirements/overrides.txt "$@" >&2
}

setup() {
  local mode="$1" stamp wanted
  local -a files
  case "$mode" in
    cpu) files=(scripts/requirements/cpu.txt scripts/requirements/cpu-nodeps.txt scripts/requirements/constraints-cpu.txt) ;;
    gpu | flash-attn) files=(requirement.txt) ;;
    eval) files=(scripts/requirements/eval.txt scripts/requirements/constraints-cpu.txt) ;;
  esac
  files+=(scripts/requirements/overrides.txt)
  cd "$repo"
  stamp="$venv/set-up-$mode"
  wanted="$(cat -- "${files[@]}" | cksum)"
  [[ -f "$stamp" && "$(cat -- "$stamp")" == "$wanted" ]] && return
  mkdir -p "$venv"
  exec 9> "$venv/.set-up.lock" # not .lock: that one is uv's own
  flock 9 # two set-ups at once: the second waits, then finds it done
  [[ -f "$stamp" && "$(cat -- "$stamp")" == "$wanted" ]] && return
  make_venv
  case "$mode" in
    cpu)
      say "installing the CPU environment: 8.5 GB on disk, about a minute on a fast network"
      install -r scripts/requirements/cpu.txt -c scripts/requirements/constraints-cpu.txt
      install --no-deps -r scripts/requirements/cpu-nodeps.txt
      local library
      for library in libnuma1:libnuma.so.1 libgomp1:libgomp.so.1; do
        need_package "${library%%:*}" "vLLM on CPU loads it" \
          "$venv/bin/python" -c "import ctypes; ctypes.CDLL('${library##*:}')"
      done
      ;;
    gpu)
      say "installing the GPU environment without flash_attn; for training, bash scripts/setup.sh --flash-attn adds it"
      grep -v '^flash_attn' requirement.txt > "$venv/requirement-first.txt"
      install -r "$venv/requirement-first.txt"
      ;;
    flash-attn)
      say "building flash_attn: many minutes; MAX_JOBS bounds its memory (${MAX_JOBS:-not set: one job per processor})"
      install setuptools wheel ninja packaging psutil # it builds against the torch that is there
      install --no-build-isolation -r requirement.txt
      ;;
    eval)
      say "installing the evaluation environment"
      install -r scripts/requirements/eval.txt -c scripts/requirements/constraints-cpu.txt
      ;;
  esac
  if [[ -n "${PYTHONDONTWRITEBYTECODE:-}" ]]; then
    # Python may be set not to keep compiled modules, so every start would compile them again
    # (many seconds for vLLM). Once here is enough; a file of another Python version may fail.
    say "compiling modules (PYTHONDONTWRITEBYTECODE is set)"
    "$venv/bin/python" -m compileall -q -j 0 "$venv/lib" > /dev/null 2>&1 || true
  fi
  echo "$wanted" > "$stamp"
  say "done: $venv"
}

# Modules that an engine's run needs; find_spec does not import them, so this takes no time.
can_run() { # PYTHON ENGINE
  local modules="pandas sklearn scipy matplotlib msgspec tqdm PIL"
  case "$2" in
    vllm) modules="$modules vllm transformers torch" ;;
    ray) modules="$modules ray vllm transformers torch" ;;
    transformers) modules="$modules transformers torch" ;;
    openai) modules="$modules openai" ;;
    *) say "expected the engine vllm, transformers, openai or ray, got $2"; exit 2 ;;
  esac
  "$1" - "$modules" 2> /dev/null << 'PYTHON'
import importlib.util, sys
sys.path[:] = filter(None, sys.path)  # without the folder of the start: what lies there is not installed
sys.exit(any(importlib.util.find_spec(name) is None for name in sys.argv[1].split()))
PYTHON
}

default_mode() { if has_gpu; then echo gpu; else echo cpu; fi; }

case "${1:-}" in
  --gpu) setup gpu ;;
  --flash-attn)
    command -v nvcc > /dev/null || [[ -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ]] || {
      say "flash_attn builds with nvcc, found neither on PATH nor in ${CUDA_HOME:-/usr/local/cuda}/bin: install the CUDA toolkit"
      exit 2
    }
    setup gpu
    setup flash-attn
    ;;
  --cpu) setup cpu ;;
  --eval-only) setup eval ;;
  --browser) need_package chromium "tests drive the pages with it; 110 MB to fetch" command -v chromium > /dev/null ;;
  "") setup "$(default_mode)" ;;
  --print-python)
    engine="${2:?usage: bash scripts/setup.sh --print-python ENGINE}"
    if command -v python3 > /dev/null && can_run python3 "$engine"; then
      command -v python3
    else
      setup "$(default_mode)"
      echo "$venv/bin/python"
    fi
    ;;
  *)
    sed -n '2,16p' "${BASH_SOURCE[0]}" | cut -c3-
    exit 2
    ;;
esac

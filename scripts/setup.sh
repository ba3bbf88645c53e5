#!/usr/bin/env bash
# Set up the environment at .venv. Nothing outside the repository is changed, except that on a
# Debian or Ubuntu without python3-venv, libnuma1 or libgomp1, run as root, these are installed
# (and Chromium, when the tests are run), and that uv keeps its cache and the Pythons it fetches.
#
#   bash scripts/setup.sh              what .venv holds; in a new one --gpu if nvidia-smi finds a GPU, else --cpu
#   bash scripts/setup.sh --gpu        requirement.txt: inference and training on GPUs, CUDA 13
#   bash scripts/setup.sh --cpu        the same on CPU, and what the tests need (8 GB)
#   bash scripts/setup.sh --paper      the paper's versions (scripts/requirements/paper.txt) on GPUs, CUDA 12
#   bash scripts/setup.sh --paper-cpu  those versions that are nearest to the paper's and run on CPU (10 GB)
#   bash scripts/setup.sh --flash-attn flash-attn, too, for --gpu or --paper, whichever .venv holds: builds many
#                                      minutes, wants nvcc; MAX_JOBS=4 bounds its memory
#   bash scripts/setup.sh --eval-only  evaluation only, no torch (0.5 GB)
#   bash scripts/setup.sh --browser    Chromium, which only the tests of pages need
#   bash scripts/setup.sh --print-python ENGINE
#       print a Python that can run ENGINE (vllm, transformers, openai, ray): the running one if
#       it has what is needed, otherwise .venv's, which is set up first if it must be
#
# A second call finds the finished environment and returns at once. A folder holds one of them:
# venv=.venv-paper bash scripts/setup.sh --paper makes another beside the first.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail

repo="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$(realpath -m -- "${venv:-$repo/.venv}")"
base_python="${base_python:-}" # a Python 3.11 or 3.12; empty: looked for
declare -A size=([gpu]=10.7 [cpu]=8 [paper]=8.5 [paper-cpu]=10 [eval]=0.5) # GB on disk

say() { echo "setup: $*" >&2; }

has_gpu() { command -v nvidia-smi > /dev/null && nvidia-smi -L > /dev/null 2>&1; }

is_python() { # PYTHON OLDEST NEWEST: whether it is one of these minor versions of Python 3
  command -v "$1" > /dev/null &&
    "$1" -c "import sys; sys.exit(not (3, $2) <= sys.version_info[:2] <= (3, $3))" 2> /dev/null
}

find_python() { # print a Python 3.11 or 3.12, or nothing
  if [[ -n "$base_python" ]] && ! is_python "$base_python" 11 12; then
    say "base_python=$base_python is no Python 3.11 or 3.12"
    exit 2
  fi
  local candidate
  for candidate in ${base_python:+"$base_python"} python3.11 python3.12 python3; do
    if is_python "$candidate" 11 12; then
      command -v "$candidate"
      return
    fi
  done
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

find_uv() { # set $uv: the one on PATH, or one that any Python 3.8 or later installs into the environment's folder
  uv="$(command -v uv || echo "$venv/.uv/bin/uv")"
  [[ -x "$uv" ]] && return
  local candidate python=""
  for candidate in ${base_python:+"$base_python"} python3 python3.11 python3.12; do
    if is_python "$candidate" 8 99; then
      python="$candidate"
      break
    fi
  done
  if [[ -z "$python" ]]; then
    say "neither uv nor Python is here. Install Python 3.11 (Debian 12: apt-get install python3 python3-venv) or uv"
    exit 2
  fi
  need_package "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" \
    "Python makes no environments without it" "$python" -c 'import ensurepip, venv'
  "$python" -m venv "$venv/.uv" >&2
  "$venv/.uv/bin/python" -m pip install --quiet --disable-pip-version-check uv >&2
}

make_venv() { # [PYTHON]: the bare environment, of that Python or of one that uv fetches
  [[ -x "$venv/bin/python" ]] && return
  local python="$1"
  if [[ -n "$python" ]]; then
    say "making $venv with $("$python" --version)"
    "$uv" venv --quiet --seed --allow-existing --python "$python" "$venv" >&2
  else
    say "no Python 3.11 or 3.12 here: uv fetches one"
    "$uv" venv --quiet --seed --allow-existing --managed-python --python 3.12 "$venv" >&2 || {
      say "uv could fetch no Python. Install Python 3.11 or 3.12 (Debian 12: apt-get install python3 python3-venv) or name one: base_python=/path/to/python3.11"
      exit 2
    }
  fi
}

install() { # uv pip install into the environment
  # Python may be set not to keep compiled modules, so every start would compile them again: many seconds for vLLM,
  # in each of verl's processes. Once here is enough.
  "$uv" pip install --quiet --python "$venv/bin/python" ${PYTHONDONTWRITEBYTECODE:+--compile-bytecode} "$@" >&2
}

held() { if [[ -f "$venv/track" ]]; then cut -d' ' -f1 "$venv/track"; fi; } # the track of $venv, finished or not

open_venv() { # TRACK: lock the folder until this script ends; refuse one that holds something else
  local track="$1" holds
  mkdir -p "$venv"
  exec 9> "$venv/.set-up.lock" # not .lock: that one is uv's own
  flock 9                      # two set-ups at once: the second waits, then finds it done
  holds="$(held)"
  if [[ -z "$holds" ]] && compgen -G "$venv/lib/python3*/site-packages/torch/__init__.py" > /dev/null; then
    holds="an environment that is not this script's"
  fi
  # eval has a few of the packages of gpu and cpu, at their versions: these may be added to it.
  if [[ -n "$holds" && "$holds" != "$track" && ! "$holds $track" =~ ^eval\ (gpu|cpu)$ ]]; then
    say "$venv holds $holds, and $track would mix with it: remove that folder, or name another one with venv="
    exit 2
  fi
}

setup() { # TRACK: its lock file into $venv
  local track="$1" lock="scripts/requirements/$1.lock" wanted python
  cd "$repo"
  wanted="$track $(cksum < "$lock")"
  [[ "$(cat -- "$venv/track" 2> /dev/null)" == "$wanted" ]] && return
  open_venv "$track"
  [[ "$(cat -- "$venv/track" 2> /dev/null)" == "$wanted" ]] && return
  echo "$track unfinished" > "$venv/track"
  python="$(find_python)"
  find_uv
  make_venv "$python"
  say "installing $lock into $venv: ${size[$track]} GB on disk, a few minutes on a fast network"
  local driver
  driver="$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2> /dev/null | head -n 1)" || true
  if [[ "$track" == gpu && "$driver" =~ ^[0-9]+ && "${BASH_REMATCH[0]}" -lt 580 ]]; then
    say "the NVIDIA driver here is $driver, CUDA 13 needs 580 or later: update it, or take --paper, which is of CUDA 12"
  fi
  install --no-deps --require-hashes --requirement "$lock" # a lock file lists everything
  if [[ "$track" == *cpu ]]; then
    local library
    for library in libnuma1:libnuma.so.1 libgomp1:libgomp.so.1; do
      need_package "${library%%:*}" "vLLM on CPU loads it" \
        "$venv/bin/python" -c "import ctypes; ctypes.CDLL('${library##*:}')"
    done
  fi
  echo "$wanted" > "$venv/track"
  say "done: $venv"
}

setup_flash_attn() { # against the torch that is in $venv
  local track requirements version
  track="$(held)"
  [[ "$track" == paper ]] || track=gpu
  requirements=requirement.txt
  [[ "$track" == gpu ]] || requirements="scripts/requirements/$track.txt"
  setup "$track"
  version="$(sed -nE 's/^# (flash[-_]attn==.*)/\1/p' "$repo/$requirements")"
  [[ "$(cat -- "$venv/flash-attn" 2> /dev/null)" == "$version" ]] && return
  open_venv "$track"
  find_uv
  say "building $version: many minutes; MAX_JOBS bounds its memory (${MAX_JOBS:-not set: one job per processor})"
  install setuptools wheel ninja packaging psutil
  install --no-deps --no-build-isolation "$version"
  echo "$version" > "$venv/flash-attn"
  say "done: $version in $venv"
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

default_track() { # what .venv holds, if that has engines, or what suits the machine
  local track
  track="$(held)"
  if [[ -n "$track" && "$track" != eval ]]; then
    echo "$track"
  elif has_gpu; then
    echo gpu
  else
    echo cpu
  fi
}

case "${1:-}" in
  --gpu) setup gpu ;;
  --flash-attn)
    command -v nvcc > /dev/null || [[ -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ]] || {
      say "flash-attn builds with nvcc, found neither on PATH nor in ${CUDA_HOME:-/usr/local/cuda}/bin: install the CUDA toolkit"
      exit 2
    }
    setup_flash_attn
    ;;
  --cpu) setup cpu ;;
  --paper) setup paper ;;
  --paper-cpu) setup paper-cpu ;;
  --eval-only) setup "$(held | grep . || echo eval)" ;; # each has what evaluation needs
  --browser) need_package chromium "tests drive the pages with it; 110 MB to fetch" command -v chromium > /dev/null ;;
  "") setup "$(default_track)" ;;
  --print-python)
    engine="${2:?usage: bash scripts/setup.sh --print-python ENGINE}"
    if command -v python3 > /dev/null && can_run python3 "$engine"; then
      command -v python3
    else
      setup "$(default_track)"
      echo "$venv/bin/python"
    fi
    ;;
  *)
    sed -n '2,20p' "${BASH_SOURCE[0]}" | cut -c3-
    exit 2
    ;;
esac

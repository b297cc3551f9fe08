#!/usr/bin/env bash
# Configures and builds one preset of CMakePresets.json: deploy/build.sh [--preset NAME] [TARGET...]
# As many compilers run at once as there are processors, unless memory allows fewer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset=release
if [[ ${1-} == --preset ]]; then
  preset=${2:?build.sh: --preset needs a name}
  shift 2
fi

# The largest translation units take about 1.5 GB.
readonly KB_PER_COMPILER=$((1536 * 1024))
memory_kb() {
  local available limit
  available=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
  limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || echo max)
  if [[ $limit =~ ^[0-9]{1,17}$ ]] && ((limit / 1024 < available)); then
    available=$((limit / 1024))
  fi
  echo "$available"
}
jobs=$(nproc)
affordable=$(($(memory_kb) / KB_PER_COMPILER))
((affordable >= jobs)) || jobs=$((affordable > 1 ? affordable : 1))

log=build/configure-$preset.log
mkdir -p build
if ! cmake --preset "$preset" >"$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi
targets=()
(($# == 0)) || targets=(--target "$@")
cmake --build --preset "$preset" --parallel "$jobs" "${targets[@]}"

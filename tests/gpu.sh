#!/usr/bin/env bash
# What needs an NVIDIA GPU: kernels and training against the golden vectors, the memory checker, NCCL, runs that must
# give what the CPU gives. Prints a report in Markdown; ends with 1 when anything failed.
#   tests/gpu.sh                 builds the preset cuda first; -DTORCH_ROOT as CONTRIBUTING.md says
#   tests/gpu.sh --bin DIR       takes the programs of DIR as they are (build/cuda/bin of another machine)
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

bin=
while (($#)); do
  case $1 in
    --bin) bin=${2:?gpu.sh: --bin needs a directory}; shift 2 ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) echo "gpu.sh: unknown argument $1 (try --help)" >&2; exit 2 ;;
  esac
done
if ! nvidia-smi -L >/dev/null 2>&1; then
  echo "gpu.sh: nvidia-smi finds no GPU here" >&2
  exit 2
fi
if [[ -z $bin ]]; then
  deploy/build.sh --preset cuda dreamstate-trainer kernels_cuda_test core_training_test >&2 || exit 1
  bin=build/cuda/bin
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0

# check NAME COMMAND...: a line of the report's table; what a failing command printed goes to stderr.
check() {
  local name=$1 log=$scratch/log begin=$EPOCHREALTIME
  shift
  local result=passed
  if ! "$@" >"$log" 2>&1; then
    result=**failed**
    failures=$((failures + 1))
    { printf '%s: %s\n' "$name" "$*"; tail -n 40 "$log"; } >&2
  fi
  printf '| %s | %s | %.1f s |\n' "$name" "$result" "$(awk "BEGIN { print $EPOCHREALTIME - $begin }")"
  sed -n 's/^    achieved: /    /p' "$log" >>"$scratch/achieved"
}

# A gtest program that skipped what it was asked for has not passed.
none_skipped() {
  local log
  log=$("$@" 2>&1)
  local code=$?
  printf '%s\n' "$log"
  ((code == 0)) && ! grep -q '\[  SKIPPED \]' <<<"$log" && grep -q '\[  PASSED  \] [1-9]' <<<"$log"
}

# config DEVICE STEPS PRECISION: the parity task's run, with these.
config() {
  python3 - "$@" <<'PY'
import json, sys
config = json.load(open("tests/benchmarks/learning/parity.json"))
config["device"], config["steps"], config["precision"] = sys.argv[1], int(sys.argv[2]), sys.argv[3]
config["log_every_steps"] = 1
print(json.dumps(config))
PY
}

train() { # train NAME DEVICE STEPS PRECISION
  config "$2" "$3" "$4" >"$scratch/$1.json" && "$bin/dreamstate-trainer" train --config "$scratch/$1.json" --run "$scratch/$1"
}

same_losses() { # same_losses A B TOLERANCE
  python3 - "$scratch/$1/log.jsonl" "$scratch/$2/log.jsonl" "$3" <<'PY'
import json, sys
def losses(path):
    lines = map(json.loads, open(path))
    return {line["step"]: line["loss"] for line in lines if line["event"] == "step"}
a, b = losses(sys.argv[1]), losses(sys.argv[2])
worst = max(abs(a[step] - b[step]) for step in a)
print(f"    achieved: loss of {len(a)} steps on the GPU and on the CPU {worst:.2e}")
sys.exit(a.keys() != b.keys() or not worst <= float(sys.argv[3]))
PY
}

tokens_a_second() { # of the second half of a run
  python3 - "$scratch/$1/log.jsonl" <<'PY'
import json, sys
steps = [line for line in map(json.loads, open(sys.argv[1])) if line["event"] == "step"]
seconds = sorted(line["seconds"] for line in steps[len(steps) // 2:])
print(f"    achieved: tokens a second, L2 D64, 128 x 128, bf16, median {128 * 128 / seconds[len(seconds) // 2]:.0f}")
PY
}

printf '# %s\n\n' "$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -n 1)"
printf '| check | | |\n|---|---|---|\n'
check 'CUDA kernels against those of the CPU' none_skipped "$bin/tests/kernels_cuda_test"
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck initcheck synccheck; do
    check "CUDA kernels under compute-sanitizer $tool" \
      compute-sanitizer --error-exitcode 1 --tool "$tool" "$bin/tests/kernels_cuda_test" --gtest_filter='*0'
  done
else
  printf '| compute-sanitizer | not here | |\n'
fi
check 'training against the golden vectors' none_skipped "$bin/tests/core_training_test" --gtest_filter='*cuda*'
check 'NCCL, one rank' none_skipped "$bin/tests/core_training_test" --gtest_filter='*Nccl*'
check 'ten steps on the GPU, fp32' train gpu cuda 10 fp32
check 'ten steps on the CPU, fp32' train cpu cpu 10 fp32
check 'the same losses' same_losses gpu cpu 1e-4
check 'three hundred steps, bf16' train bf16 cuda 300 bf16
check 'speed' tokens_a_second bf16
printf '\nAchieved:\n\n'
cat "$scratch/achieved" 2>/dev/null
((failures == 0))

#!/usr/bin/env bash
# Builds everything and runs every test; installs what is missing first.
#   tests/run.sh                                  the release build, as CI runs it
#   tests/run.sh --preset asan                    another preset of CMakePresets.json (debug, asan, tsan, fuzz, cuda)
#   tests/run.sh --no-install                     installs and fetches nothing
#   tests/run.sh -- -R core_state                 what follows -- goes to ctest
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

preset=release
install=yes
while (($#)); do
  case $1 in
    --preset) preset=${2:?run.sh: --preset needs a name}; shift 2 ;;
    --no-install) install=no; shift ;;
    --) shift; break ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) echo "run.sh: unknown argument $1 (try --help)" >&2; exit 2 ;;
  esac
done

if [[ $install == yes ]]; then
  case $preset in
    cuda) deploy/dependencies.sh --cuda ;;
    fuzz) deploy/dependencies.sh --fuzz ;;
    *) deploy/dependencies.sh ;;
  esac
else
  export DREAMSTATE_OFFLINE=1 # tests that would fetch something are skipped
fi
targets=()
[[ $preset != fuzz ]] || targets=(fuzzers)
deploy/build.sh --preset "$preset" "${targets[@]}"
exec ctest --preset "$preset" --parallel "$(nproc)" "$@"

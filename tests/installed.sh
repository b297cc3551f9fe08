#!/usr/bin/env bash
# Fails when what `cmake --install` leaves cannot run by itself: tests/installed.sh BUILD
set -euo pipefail
build=${1:?installed.sh: expected the build folder}
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT

cmake --install "$build" --prefix "$prefix/usr" >"$prefix/log" || { cat "$prefix/log"; exit 1; }
for program in dreamstate dreamstate-server dreamstate-trainer; do
  # From another folder, with nothing of the build in the environment.
  (cd / && env -i "$prefix/usr/bin/$program" --help >/dev/null) || { echo "$program does not start"; exit 1; }
  if readelf -d "$prefix/usr/bin/$program" | grep -E 'R(UN)?PATH' | grep -F "$build"; then
    echo "$program looks for libraries in the build folder"
    exit 1
  fi
done
echo "what is installed runs"

#!/usr/bin/env bash
# Tests other people's ways to call the server: run.sh SERVER_BINARY
# Installs pinned packages from PyPI and client/python into build/python once, and says "skipped" (exit code 77) where that
# is not possible: without pip, without a network, or with DREAMSTATE_OFFLINE=1.
set -euo pipefail
server=$(realpath "${1:?run.sh: which dreamstate-server?}")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)

skip() { printf 'skipped: %s\n' "$*"; exit 77; }

python=
for candidate in python3 /usr/bin/python3; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null &&
    "$candidate" -m pip --version >/dev/null 2>&1; then
    python=$candidate
    break
  fi
done
[[ -n $python ]] || skip "no Python 3.11 or newer with pip"

# A folder of packages instead of a virtual environment: it needs no python3-venv.
# Its name says what is in it, so a change of anything makes another one.
hash=$({ "$python" -VV; cd "$root" && find client/python proto tests/client/python/requirements.txt -type f \
  ! -path '*/__pycache__/*' -print0 | sort -z | xargs -0 sha256sum; } | sha256sum | cut -c1-16)
mkdir -p "$root/build/python"
exec 9>"$root/build/python/lock"
flock 9
site=$root/build/python/$hash
if [[ ! -f $site.complete ]]; then
  [[ -z ${DREAMSTATE_OFFLINE-} ]] || skip "DREAMSTATE_OFFLINE is set, and build/python holds no packages yet"
  stage=$site.partial log=$root/build/python/pip.log
  find "$root/build/python" -mindepth 1 -maxdepth 1 ! -name lock -exec rm -rf {} +
  mkdir -p "$stage/source/client"
  pip() { "$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$stage/site" "$@" >"$log" 2>&1; }
  if ! pip --retries 1 --timeout 20 --only-binary=:all: -r "$here/requirements.txt"; then
    tail -n 5 "$log"
    grep -qE 'ConnectionError|ConnectTimeout|NewConnectionError|name resolution|unreachable|ProxyError|ReadTimeout|No route' "$log" &&
      skip "PyPI cannot be reached"
    exit 1
  fi
  # pip writes beside what it builds: a copy.
  cp -r "$root/client/python" "$stage/source/client/"
  cp -r "$root/proto" "$stage/source/"
  PYTHONPATH=$stage/site pip --no-build-isolation --no-index "$stage/source/client/python" || { cat "$log"; exit 1; }
  mv "$stage" "$site"
  touch "$site.complete"
fi
flock -u 9

cd "$here"
export PYTHONPATH=$site/site PYTHONDONTWRITEBYTECODE=1
export DREAMSTATE_SERVER_BINARY=$server DREAMSTATE_ROOT=$root
exec "$python" -m unittest --verbose wrapper_test generic_clients_test

#!/usr/bin/env bash
# Installs what building needs and is not there yet: packages of Debian 12 or Ubuntu 24.04 with apt, and the PyPI wheels
# of deploy/wheels.sha256 (LibTorch, the google/rpc protos), which are unpacked into build/third_party and used without
# Python. Run it as often as you like: with everything in place it calls neither apt nor the network.
#   deploy/dependencies.sh              for the CPU
#   deploy/dependencies.sh --cuda       also unpacks the CUDA half of LibTorch (the preset cuda)
#   deploy/dependencies.sh --fuzz       also installs clang (the preset fuzz)
#   deploy/dependencies.sh --no-torch   leaves LibTorch out: you configure with -DTORCH_ROOT=<your own>
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly LOCK=deploy/wheels.sha256 DOWNLOADS=build/downloads THIRD_PARTY=build/third_party

# A tool counts as there when it can be called, wherever it came from.
TOOLS=(g++:g++ cmake:cmake ninja:ninja-build ccache:ccache pkg-config:pkg-config python3:python3)
# libpng-dev brings zlib1g-dev along.
LIBRARIES=(
  libgrpc++-dev protobuf-compiler-grpc libprotobuf-dev protobuf-compiler grpc-proto
  libabsl-dev prometheus-cpp-dev librocksdb-dev nlohmann-json3-dev libssl-dev libcli11-dev libspdlog-dev libpng-dev
  libgloo-dev
  libgtest-dev libgmock-dev libbenchmark-dev)

flavour=cpu
for argument in "$@"; do
  case $argument in
    --cuda) flavour=cuda ;;
    --fuzz) TOOLS+=(clang++:clang) LIBRARIES+=(libclang-rt-dev) ;;
    --no-torch) flavour=none ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) echo "dependencies.sh: unknown argument $argument (try --help)" >&2; exit 2 ;;
  esac
done

packages=()  # distribution packages still to install
wheels=()    # file names of wheels still to fetch

say() { printf 'dependencies: %s\n' "$*"; }
fail() { printf 'dependencies: %s\n' "$*" >&2; exit 1; }
no_network() { fail "no network: still needed:${packages[*]:+ packages ${packages[*]}}${wheels[*]:+ wheels ${wheels[*]}}"; }

has_pip() { "$1" -m pip --version >/dev/null 2>&1; }
wheel_names() { awk '!/^#/ { print $2 }' "$LOCK"; }
wheel_hash() { awk -v name="$1" '$2 == name { print $1 }' "$LOCK"; }
hash_of() { sha256sum "$1" | cut -d' ' -f1; }

find_missing_packages() {
  local entry
  for entry in "${TOOLS[@]}"; do
    command -v "${entry%%:*}" >/dev/null || packages+=("${entry#*:}")
  done
  if command -v dpkg-query >/dev/null; then
    local installed
    installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "${LIBRARIES[@]}" 2>/dev/null || true)
    for entry in "${LIBRARIES[@]}"; do
      grep -qxF "$entry installed" <<<"$installed" || packages+=("$entry")
    done
  else
    packages+=("${LIBRARIES[@]}")
  fi
  if ((${#wheels[@]})) && ! has_pip python3 && ! has_pip /usr/bin/python3; then
    packages+=(python3-pip)
  fi
}

as_root() {
  if ((EUID == 0)); then
    "$@"
  elif [[ -t 0 ]]; then
    sudo "$@"
  else
    sudo -n "$@"
  fi
}

apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

install_packages() {
  ((${#packages[@]})) || return 0
  command -v apt-get >/dev/null ||
    fail "this machine has no apt-get; install the like of these by hand: ${packages[*]}"
  ((EUID == 0)) || command -v sudo >/dev/null ||
    fail "neither root nor sudo: still needed: packages ${packages[*]}"
  say "installing ${#packages[@]} packages: ${packages[*]}"
  local log=build/dependencies.log
  apt_get update >"$log" 2>&1 || true
  # Fetching apart from installing tells a missing network from a package that does not install.
  if ! apt_get install -y --no-install-recommends --download-only "${packages[@]}" >>"$log" 2>&1; then
    grep -E '^(E|W|Err)[: ]' "$log" | tail -n 5 >&2 || true
    no_network
  fi
  if ! apt_get install -y --no-install-recommends "${packages[@]}" >>"$log" 2>&1; then
    tail -n 20 "$log" >&2
    fail "apt-get could not install (all of it in $log): ${packages[*]}"
  fi
  packages=()
}

# torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl -> what pip has to be asked for to get just this file.
fetch_wheel() {
  local file=$1 python=$2 name version tag abi platform
  IFS=- read -r name version tag abi platform <<<"${file%.whl}"
  platform=${platform%%.*}
  local arguments=(--no-deps --only-binary=:all: --dest "$DOWNLOADS/partial" --no-cache-dir)
  if [[ $platform != any ]]; then
    arguments+=(--python-version 3.11 --implementation cp --platform "$platform" --abi "$abi")
  fi
  [[ $tag == cp* || $abi == none ]] || fail "$LOCK: do not know how to ask for $file"
  rm -rf "$DOWNLOADS/partial"
  mkdir -p "$DOWNLOADS/partial"
  say "fetching $file"
  if ! "$python" -m pip download --quiet --disable-pip-version-check "${arguments[@]}" "${name//_/-}==$version" \
    >build/pip.log 2>&1; then
    tail -n 2 build/pip.log >&2
    return 1
  fi
  [[ -f $DOWNLOADS/partial/$file ]] || fail "asked for $file, got $(ls "$DOWNLOADS/partial")"
  local found
  found=$(hash_of "$DOWNLOADS/partial/$file")
  [[ $found == "$(wheel_hash "$file")" ]] ||
    fail "$file: SHA-256 expected $(wheel_hash "$file"), found $found; not used"
  mv "$DOWNLOADS/partial/$file" "$DOWNLOADS/$file"
  rm -rf "$DOWNLOADS/partial"
}

fetch_wheels() {
  local python=python3
  has_pip python3 || python=/usr/bin/python3
  while ((${#wheels[@]})); do
    fetch_wheel "${wheels[0]}" "$python" || no_network
    wheels=("${wheels[@]:1}")
  done
}

# A stamp names everything that an unpacked folder came from; it is written when the folder is complete.
stamp_text() {
  printf '%s\n' "$(hash_of deploy/unpack_wheel.py)"
  local file
  for file in $(files_of "$1"); do wheel_hash "$file"; done
}
files_of() {
  case $1 in
    googleapis) wheel_names | grep '^googleapis' ;;
    torch-*) wheel_names | grep -E '^(torch|nvidia_)' ;;
  esac
}
is_unpacked() {
  local stamp
  for stamp in "$@"; do
    [[ -f $THIRD_PARTY/$stamp.complete && $(<"$THIRD_PARTY/$stamp.complete") == "$(stamp_text "$stamp")" ]] && return 0
  done
  return 1
}

unpack() {
  local rule=$1 stage=$THIRD_PARTY/partial file folder
  say "unpacking $rule"
  rm -rf "$stage"
  mkdir -p "$stage"
  for file in $(files_of "$rule"); do
    case $file in
      googleapis*) python3 deploy/unpack_wheel.py "$DOWNLOADS/$file" "$stage/googleapis" googleapis ;;
      nvidia_*) python3 deploy/unpack_wheel.py "$DOWNLOADS/$file" "$stage" nvidia ;;
      *) python3 deploy/unpack_wheel.py "$DOWNLOADS/$file" "$stage" "$rule" ;;
    esac
  done
  rm -f "$THIRD_PARTY/${rule%-*}"*.complete
  for folder in "$stage"/*; do
    rm -rf "${THIRD_PARTY:?}/$(basename "$folder")"
    mv "$folder" "$THIRD_PARTY/"
  done
  sync -f "$THIRD_PARTY"
  stamp_text "$rule" >"$stage/complete"
  mv "$stage/complete" "$THIRD_PARTY/$rule.complete"
  rm -rf "$stage"
}

mkdir -p "$DOWNLOADS" "$THIRD_PARTY"
if command -v flock >/dev/null; then
  exec 9>build/dependencies.lock
  flock 9
fi

groups=()
is_unpacked googleapis || groups+=(googleapis)
case $flavour in
  cpu) is_unpacked torch-cpu torch-cuda || groups+=(torch-cpu) ;;  # the CUDA flavour holds the CPU one too
  cuda) is_unpacked torch-cuda || groups+=(torch-cuda) ;;
esac
for group in "${groups[@]}"; do
  for file in $(files_of "$group"); do
    if [[ ! -f $DOWNLOADS/$file ]]; then
      wheels+=("$file")
    elif [[ $(hash_of "$DOWNLOADS/$file") != "$(wheel_hash "$file")" ]]; then
      say "$file is damaged: fetching it again"
      rm -f "$DOWNLOADS/$file"
      wheels+=("$file")
    fi
  done
done

find_missing_packages
install_packages
fetch_wheels
for group in "${groups[@]}"; do
  unpack "$group"
done
say "everything is in place"

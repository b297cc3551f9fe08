#!/usr/bin/env bash
# Tries the promise of two commands on a machine with nothing on it: a new minimal Debian 12 with git, bash and
# ca-certificates, root inside, and a clone of the committed HEAD. Needs root, mmdebstrap, 8 GB of disk and a network;
# apt and pip inside reach packages the way this machine does. Takes as long as a first build does.
#   tests/bare_machine.sh                     tests/run.sh and deploy/quickstart.sh, each once more to see it repeat
#   tests/bare_machine.sh --keep              leaves the machine in build/bare_machine/root
#   tests/bare_machine.sh -- COMMAND...       runs COMMAND in the clone instead
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly ROOT=$PWD/build/bare_machine/root
readonly CLONE=/root/dreamstate
readonly CA=/etc/ssl/certs/ca-certificates.crt

keep=no
while (($#)); do
  case $1 in
    --keep) keep=yes; shift ;;
    --) shift; break ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) echo "bare_machine.sh: unknown argument $1 (try --help)" >&2; exit 2 ;;
  esac
done

say() { printf '\n== bare machine: %s\n' "$*"; }
fail() { printf 'bare_machine.sh: %s\n' "$*" >&2; exit 1; }
((EUID == 0)) || fail "needs root (it makes a root file system and enters it)"
command -v mmdebstrap >/dev/null || fail "needs mmdebstrap: apt-get install mmdebstrap"

mkdir -p "$(dirname "$ROOT")"
exec 9>"$ROOT.lock"
flock --nonblock 9 || fail "another one is running in this tree"

remove() {
  [[ $keep == yes ]] || rm -rf --one-file-system "$ROOT"
}
trap remove EXIT

make_machine() {
  rm -rf --one-file-system "$ROOT"
  local sources=() file
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
    [[ -s $file ]] && sources+=("$file")
  done
  local options=()
  while read -r file; do
    options+=(--customize-hook="copy-in $file /etc/apt/apt.conf.d")
  done < <(grep -l '^Acquire::' /etc/apt/apt.conf.d/* 2>/dev/null || true)
  TMPDIR=$(dirname "$ROOT") mmdebstrap --quiet --variant=minbase --include=git,ca-certificates \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    "${options[@]}" bookworm "$ROOT" "${sources[@]}"
  # How this machine reaches packages: names, certificates, pip's configuration.
  cp --dereference /etc/resolv.conf /etc/hosts "$ROOT/etc/"
  cp --dereference "$CA" "$ROOT$CA"
  [[ ! -f /etc/pip.conf ]] || cp /etc/pip.conf "$ROOT/etc/"
  git clone --quiet --no-local . "$ROOT$CLONE"
}

# Runs a command in the clone. The mounts and every process left over end with it.
inside() {
  local environment=(HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 CI=true) name
  while read -r name; do
    environment+=("$name=${!name}")
  done < <(compgen -e | grep -E '^(PIP_|.*_proxy$|.*_PROXY$)' | grep -v '^PIP_FIND_LINKS$' || true)
  # shellcheck disable=SC2016  # expanded by the shell inside
  unshare --mount --pid --fork --kill-child "${network[@]}" bash -euc '
    root=$1 clone=$2; shift 2
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    exec chroot "$root" /bin/bash -c "cd $clone && exec \"\$@\"" bash "$@"' \
    bash "$ROOT" "$CLONE" env -i "${environment[@]}" "$@" </dev/null
}
network=()

say "making a minimal Debian 12 in $ROOT"
make_machine
if (($#)); then
  say "$*"
  inside "$@"
  exit
fi

say "without a network: dependencies.sh says what is missing"
network=(--net)
status=0
answer=$(inside ./deploy/dependencies.sh 2>&1) || status=$?
printf '%s\n' "$answer"
((status == 1)) || fail "expected exit code 1 without a network, got $status"
[[ $answer == *"no network: still needed:"* ]] || fail "expected to read what is still needed"
network=()

say "tests/run.sh"
inside ./tests/run.sh
say "deploy/quickstart.sh"
inside bash -c './deploy/quickstart.sh && ./deploy/quickstart.sh --stop'
say "both again, now without a network: nothing is fetched and nothing is built"
network=(--net)
inside bash -c './deploy/dependencies.sh && ./deploy/build.sh'
say "every command reached its end"

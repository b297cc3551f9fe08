#!/usr/bin/env bash
# From a clone to a running server and a first look at states. On Debian 12 or Ubuntu 24.04, as root or with sudo.
#   deploy/quickstart.sh                installs what is missing, builds, starts a server on the model that ships, tells the story
#   deploy/quickstart.sh --no-install   the same, but installs and fetches nothing
#   deploy/quickstart.sh --stop         ends the server that it started
# Everything it makes is under build/; the server and its states stay for the next run. The server listens on this machine
# only, on port 50051, or on a free one when that is taken. Run it as often as you like.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly HOME_DIR=build/quickstart
BIN=$(pwd -P)/build/release/bin # as /proc names programs
readonly BIN
readonly PID_FILE=$HOME_DIR/server.pid PORT_FILE=$HOME_DIR/ports.json LOG=$HOME_DIR/server.log OUTPUT=$HOME_DIR/output.txt
readonly GRPC_PORT=50051 ADMIN_PORT=9464
readonly START_SECONDS=60 STOP_SECONDS=45

install=yes
action=start
for argument in "$@"; do
  case $argument in
    --no-install) install=no ;;
    --stop) action=stop ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) echo "quickstart.sh: unknown argument $argument (try --help)" >&2; exit 2 ;;
  esac
done

if [[ -t 1 ]]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi
heading() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
tell() { printf '%s\n' "$@"; }
fail() { printf 'quickstart.sh: %s\n' "$*" >&2; exit 1; }
# Shows a command as you could type it, runs it, and keeps what it said in $OUTPUT.
run() {
  printf '\n%s$ %s%s\n' "$bold" "$1" "$plain"
  eval "$1" 2>&1 | tee "$OUTPUT" || fail "this command failed. The server's log is $LOG"
}
# The first state whose name the last command printed behind $1.
state_after() { sed -n "s,.*$1states/\\([0-9a-z]*\\).*,\\1,p" "$OUTPUT" | head -n 1; }

# ---- the server's process

# A process is ours when the pid file names it, it still is the process of that time, and it runs our binary.
server_pid() {
  local pid started
  [[ -r $PID_FILE ]] && read -r pid started <"$PID_FILE" && [[ $pid =~ ^[0-9]+$ ]] || return 1
  [[ $(start_time "$pid") == "$started" ]] || return 1
  local program
  program=$(readlink "/proc/$pid/exe" 2>/dev/null) || return 1
  [[ ${program% (deleted)} == "$BIN/dreamstate-server" ]] || return 1
  echo "$pid"
}
# When a process began, in clock ticks since boot. The program's name may hold spaces, so count behind its bracket.
start_time() {
  local line
  line=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  awk '{ print $20 }' <<<"${line##*) }"
}

stop_server() {
  local pid
  pid=$(server_pid) || { rm -f "$PID_FILE"; return 1; }
  kill -TERM "$pid" 2>/dev/null || true
  for ((i = 0; i < STOP_SECONDS * 10; ++i)); do
    server_pid >/dev/null || break
    sleep 0.1
  done
  if server_pid >/dev/null; then
    kill -KILL "$pid" 2>/dev/null || true
  fi
  rm -f "$PID_FILE" "$PORT_FILE"
}

# The port asked for, or 0 (take a free one) when somebody listens there already.
port_or_free() {
  if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then echo 0; else echo "$1"; fi
}

start_server() {
  local grpc admin
  grpc=$(port_or_free $GRPC_PORT)
  admin=$(port_or_free $ADMIN_PORT)
  [[ $grpc != 0 ]] || tell "Port $GRPC_PORT is taken by another program, so the server takes a free one."
  rm -f "$PORT_FILE"
  # A session of its own: Ctrl-C here does not end it. It must not hold our lock either.
  setsid "$BIN/dreamstate-server" --repository deploy/starter/repository --store "$HOME_DIR/store" \
    --listen-address "127.0.0.1:$grpc" --admin-address "127.0.0.1:$admin" --port-file "$PORT_FILE" \
    </dev/null >"$LOG" 2>&1 9>&- &
  local pid=$!
  printf '%s %s\n' "$pid" "$(start_time "$pid")" >"$PID_FILE"
}

server_address() {
  local port
  port=$(sed -n 's/.*"grpc": *\([0-9]\+\).*/\1/p' "$PORT_FILE" 2>/dev/null) && [[ -n $port ]] && echo "127.0.0.1:$port"
}

# Until it serves a model.
wait_until_healthy() {
  local address
  for ((i = 0; i < START_SECONDS * 10; ++i)); do
    if address=$(server_address) &&
      [[ $(dreamstate --server "$address" --timeout 5s --json models 2>/dev/null) == *'"servingVersion":"models/'* ]]; then
      return
    fi
    if [[ -z $(jobs -rp) ]] && ! server_pid >/dev/null; then
      tail -n 20 "$LOG" >&2
      fail "the server did not start; the lines above are the end of $LOG"
    fi
    sleep 0.1
  done
  tail -n 20 "$LOG" >&2
  fail "the server serves no model after $START_SECONDS s; the lines above are the end of $LOG"
}

mkdir -p "$HOME_DIR"
exec 9>"$HOME_DIR/lock"
flock --nonblock 9 || fail "another quickstart.sh is running in this tree"

if [[ $action == stop ]]; then
  if stop_server; then
    tell "The server is stopped. Its states stay in $HOME_DIR/store for the next time."
  else
    tell "No server of deploy/quickstart.sh is running."
  fi
  exit
fi

# ---- build and start

heading "Building (some minutes the first time)"
[[ $install == no ]] || deploy/dependencies.sh 9>&-
deploy/build.sh --preset release dreamstate dreamstate-server dreamstate-trainer 9>&-

heading "Starting the server"
export PATH=$BIN:$PATH
if pid=$(server_pid) && [[ $(readlink "/proc/$pid/exe") != *"(deleted)" ]]; then
  tell "The server of the last time still runs (process $pid)."
else
  stop_server || true # one of an older build
  start_server
fi
wait_until_healthy
address=$(server_address)
export DREAMSTATE_SERVER=$address
tell "It runs on $address (process $(server_pid), log $LOG)." \
  "In a shell of your own, here in this directory, two lines make the commands" \
  "below work:" \
  "" \
  "  export PATH=\"$BIN:\$PATH\"" \
  "  export DREAMSTATE_SERVER=$address"

# ---- the story

heading "1. The model"
tell "A language model of the RWKV-7 kind remembers all that it has read in one" \
  "state of fixed size. The model that ships is small: 4.5 million parameters, it" \
  "reads byte by byte, and this project's trainer made it in ten minutes on one GPU," \
  "of code and manuals. Expect form, not sense."
run "dreamstate models"

heading "2. Harvest two states"
tell "The server reads the first page of Alice in Wonderland, and the beginning of a" \
  "Python file, and keeps the state behind each for 7 days. The answer begins with" \
  "the state's name."
run "dreamstate states harvest deploy/quickstart/alice.txt --label quickstart --ttl 7d"
alice=$(state_after "")
run "dreamstate states harvest deploy/quickstart/basket.py --label quickstart --ttl 7d"
python=$(state_after "")

heading "3. List them"
tell "States are kept on disk. Those of earlier runs are still there."
run "dreamstate states list --label quickstart --limit 5"

heading "4. Decode from them"
tell "A state never changes, so any number of continuations can start from it, and" \
  "none has to read the text again (\"read 0 tokens\" below). Each byte is drawn" \
  "from the 8 most probable ones; the same seed gives the same text every time."
run "dreamstate decode --from $python --branches 2 --max-tokens 160 --top-k 8 --seed 1"
run "dreamstate decode --from $alice --max-tokens 120 --top-k 8 --seed 1"

heading "5. Score what comes next, from each state and from the empty one"
tell "How well does the model foresee the rest of the Python file, and the next" \
  "paragraphs of the book? Fewer bits per byte are better: the state that has read" \
  "the same text wins, the other one is worse than none."
run "dreamstate score --file deploy/quickstart/basket-next.py --from $python --from $alice --from empty"
run "dreamstate score --file deploy/quickstart/alice-next.txt --from $python --from $alice --from empty"

heading "6. Save and continue"
tell "A continuation can be saved. Its state remembers the text, the words added" \
  "here, and what the model wrote behind them."
run "dreamstate decode --from $alice ' Alice said:' --max-tokens 60 --top-k 8 --seed 2 --save --label quickstart --ttl 7d"
saved=$(state_after "saved ")
tell "" "The new state knows what it was made from. Below that stands how large the" \
  "values of each matrix are: layers down, heads across; --png FILE draws it as a" \
  "picture."
run "dreamstate states show $saved"
tell "" "It can be continued in turn:"
run "dreamstate decode --from $saved --max-tokens 60 --top-k 8 --seed 3"

heading "7. Generate a state that nobody has read"
tell "The model comes with a diffusion transformer that has seen 67,360 states of 25" \
  "kinds of text. It makes one of German manual pages, though the server has read" \
  "none: what follows is the model going on from it."
run "dreamstate states generate --of man_de --seed 5 --label quickstart --ttl 7d"
german=$(state_after "")
run "dreamstate decode --from $german --max-tokens 160 --top-k 8 --seed 1"

heading "8. Edit: half way from the Python file to it"
tell "The norm of every matrix is kept. The last line says how well each foresees" \
  "the rest of the Python file: what is gone, and what is left."
run "dreamstate states edit interpolate $python $german --fraction 0.5 --path spherical --label quickstart --ttl 7d"
between=$(state_after "")
run "dreamstate decode --from $between --max-tokens 120 --top-k 8 --seed 1"
run "dreamstate score --file deploy/quickstart/basket-next.py --from $python --from $between --from $german"

heading "9. Draw a map"
tell "Four states of each of two kinds: which lie together? Each" \
  "letter is a state; the PNG and the page show it in colour, with what each point is."
run "dreamstate states generate --of rust --samples 4 --seed 1 --label rust --label generated --ttl 7d"
run "dreamstate states generate --of man_de --samples 4 --seed 2 --label man_de --label generated --ttl 7d"
run "dreamstate states map --label generated --png $HOME_DIR/map.png --html $HOME_DIR/map.html --force"

heading "Go on by hand"
tell "The server keeps running. After these two lines" \
  "" \
  "  export PATH=\"$BIN:\$PATH\"" \
  "  export DREAMSTATE_SERVER=$address" \
  "" \
  "you can for example" \
  "" \
  "  dreamstate --help                          see all commands" \
  "  dreamstate decode --help                   see one command, with examples" \
  "  dreamstate states harvest YOUR_FILE.txt    keep a state of your own text" \
  "  dreamstate decode --from STATE 'And then'  continue it" \
  "  dreamstate states generate --help          make states, from labels, texts and words" \
  "  dreamstate states edit --help              interpolate, blend, project, translate, inpaint" \
  "  dreamstate chat --top-k 8                  talk, without hoping for sense" \
  "  ./deploy/quickstart.sh --stop              end the server; states stay"

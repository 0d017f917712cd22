# What the benchmarks share: a private place that leaves nothing behind, programs, and reading of clocks. Source it
# first. The rest of the script then runs in a mount namespace of its own, as root.
set -euo pipefail
bench_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ "${BENCH_NAMESPACE:-}" != "$$" ]; then
    [ "$(id -u)" = 0 ] || { echo "$0: needs root, for a MySQL in an overlay of its own" >&2; exit 2; }
    # The same process goes on, so that its number proves where it is.
    BENCH_NAMESPACE=$$ exec unshare --mount --propagation private "$0" "$@"
fi
cache=${AESOP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/aesop}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
mkdir -p "$cache/bench"
work=$(mktemp -d "$cache/bench/run.XXXXXX")
started=()

cleanup() { # what this script started ends, newest first; mounts end with the namespace
    local i pid
    for ((i = ${#started[@]} - 1; i >= 0; i--)); do
        pid=${started[i]}
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq 200); do kill -0 "$pid" 2>/dev/null || break; sleep 0.05; done
        kill -9 "$pid" 2>/dev/null || true
    done
    cd /
    for mount in $(awk -v work="$work/" 'index($2, work) == 1 {print $2}' /proc/mounts | sort -r); do umount -l "$mount" 2>/dev/null || true; done
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say() { echo "$*" >&2; }
die() { say "$0: $*"; exit 1; }

# start NAME COMMAND...: in the background, its output in $work/NAME.log; sets $pid
start() {
    local name=$1
    shift
    "$@" >"$work/$name.log" 2>&1 &
    pid=$!
    started+=("$pid")
}

# stop PID: ends a process that `start` started, and waits
stop() {
    kill "$1" 2>/dev/null || return 0
    wait "$1" 2>/dev/null || true
}

# until_true SECONDS WHAT COMMAND...: waits for a command to succeed
until_true() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || { tail -n 20 "$work"/*.log >&2 || true; die "gave up waiting for $what"; }
        sleep 0.05
    done
}

programs() { # builds the programs and the examples, or takes what is there with BENCH_BUILT=1; sets $relay, $consumer, $replay, $follow
    if [ -z "${BENCH_BUILT:-}" ]; then
        say "building"
        (cd "$bench_dir/.." && cargo build --quiet --release -p relay --bins --examples)
    fi
    relay=$CARGO_TARGET_DIR/release/aesop-relay consumer=$CARGO_TARGET_DIR/release/aesop-consumer
    replay=$CARGO_TARGET_DIR/release/examples/replay follow=$CARGO_TARGET_DIR/release/examples/follow
}

now() { date +%s.%N; }
ticks=$(getconf CLK_TCK)
# cpu PID: seconds of CPU that a process has used so far, its ended children left out
cpu() { sed 's/.*) //' "/proc/$1/stat" | awk -v ticks="$ticks" '{print ($12 + $13) / ticks}'; }
# peak PID: most memory it ever had resident, MiB; anonymous PID: what of it now is not files, MiB
peak() { awk '/^VmHWM/ {printf "%d", $2 / 1024}' "/proc/$1/status"; }
anonymous() { awk '/^RssAnon/ {printf "%d", $2 / 1024}' "/proc/$1/status"; }
# metric PORT NAME: the sum of a metric's values over its labels
metric() { curl -sf "http://127.0.0.1:$1/metrics" | awk -v name="$2" '$1 ~ "^" name "({|$)" {s += $2} END {printf "%d", s}'; }
# calc EXPRESSION: arithmetic with fractions
calc() { awk "BEGIN {printf \"%.${2:-2}f\", $1}"; }

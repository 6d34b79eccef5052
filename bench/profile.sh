#!/usr/bin/env bash
# bench/profile.sh TARGET [OPTIONS of saga-bench load]: flame graphs of host, Kafka and Postgres under load.
#
# Writes TARGET/profile/{host,kafka,postgres}.svg. Variables, with their defaults:
#   PROFILE_SECONDS (10)  seconds to record
#   PROFILE_AFTER (20)    seconds of load before the recording
#   PROFILE_RATE (499)    samples per second of each core
set -euo pipefail
target=$1
shift
out=$target/profile
data=$out/data
tools=target/tools
seconds=${PROFILE_SECONDS:-10}
after=${PROFILE_AFTER:-20}
rate=${PROFILE_RATE:-499}
# A clock of the kernel. It also works in a virtual machine, where the processor's counters may be missing.
event=cpu-clock
# Bytes of stack that perf copies per sample: Rust and Postgres keep no frame pointers.
stack_bytes=16384

fail() {
    echo "error: $1" >&2
    exit 1
}

command -v perf >/dev/null || fail "perf is missing; install it, for example: apt-get install linux-perf"
perf record -q -a -g -e "$event" -o /dev/null -- true 2>/dev/null ||
    fail "perf is not allowed to record; run as root, or set kernel.perf_event_paranoid to -1 by sysctl"
if ! [ -x "$tools/bin/inferno-flamegraph" ]; then
    cargo install --quiet --locked --root "$tools" inferno
fi
mkdir -p "$out"

# The JVM then keeps frame pointers, and writes the names of compiled code for perf when it ends.
export JAVA_TOOL_OPTIONS="-XX:+PreserveFramePointer -XX:+UnlockDiagnosticVMOptions -XX:+DumpPerfMapAtExit"
"$target/release/saga-bench" load --clients 64 --warmup-s "$after" --measure-s $((seconds + 5)) --busy \
    --folder "$data" "$@" &
load=$!
stop() { kill "$load" 2>/dev/null || true; }
trap stop EXIT

json=$data/stack/dev.json
rm -f "$json"
until [ -s "$json" ]; do
    kill -0 "$load" 2>/dev/null || fail "the load ended before the host was ready"
    sleep 0.2
done
pid() { grep -oE "\"$1\": *[0-9]+" "$json" | grep -oE "[0-9]+$"; }
host=$(pid host) && kafka=$(pid kafka) && postgres=$(pid postgres) ||
    fail "$json lacks a process of host, Kafka (is Java installed?) or Postgres"
sleep "$after"

record() {
    local name=$1
    shift
    perf record -q -e "$event" -F "$rate" -o "$out/$name.perf" "$@" -- sleep "$seconds"
}
record host --call-graph "dwarf,$stack_bytes" -p "$host" &
host_record=$!
record kafka --call-graph fp -p "$kafka" &
kafka_record=$!
# Postgres has a process for each session.
record postgres --call-graph "dwarf,$stack_bytes" -p "$(pgrep -d, -P "$postgres"),$postgres" &
postgres_record=$!
wait "$host_record" "$kafka_record" "$postgres_record"
echo "recorded $seconds s; waiting for the end of the load" >&2
wait "$load" || fail "the load failed"
trap - EXIT

for name in host kafka postgres; do
    perf script --no-inline -i "$out/$name.perf" 2>/dev/null |
        "$tools/bin/inferno-collapse-perf" 2>/dev/null |
        "$tools/bin/inferno-flamegraph" --title "$name, $seconds s under load" >"$out/$name.svg"
    echo "$out/$name.svg"
done

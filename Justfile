# `./dev TASK` runs these on a machine that has neither `just` nor the wasm target; `just TASK` on one that has.

set shell := ["bash", "-euo", "pipefail", "-c"]

target := env("CARGO_TARGET_DIR", "target")
# Always built together: another selection would build their dependencies with other features.
products := "-p saga-host -p saga-testkit -p saga-bench"

# List the tasks
[private]
default:
    @just --list --unsorted

# Show everything: stack, host and plugins up, sagas end to end, a live swap; then it stays up (`--exit` ends it)
demo *ARGS: build-plugins build-release
    {{ target }}/release/saga-testkit demo {{ ARGS }}

# Run the development stack, a host and all plugins, until Ctrl-C; options as in `saga-host dev --help`
up *ARGS: build-plugins build-release
    {{ target }}/release/saga-host dev {{ ARGS }}

# Build every plugin and put components and policies in plugins/dist, where a running host swaps to them
build-plugins:
    #!/usr/bin/env bash
    set -euo pipefail
    packages=()
    for manifest in plugins/*/Cargo.toml; do packages+=(-p "$(basename "$(dirname "$manifest")")"); done
    cargo build --profile plugin --target wasm32-wasip2 "${packages[@]}"
    mkdir -p plugins/dist
    # A reader sees the old file or the new one, whole; the policy is there before its component.
    put() {
        cmp -s "$1" "plugins/dist/$2" && return
        cp "$1" "plugins/dist/.$2.part"
        sync "plugins/dist/.$2.part"
        mv "plugins/dist/.$2.part" "plugins/dist/$2"
        echo "plugins/dist/$2"
    }
    for manifest in plugins/*/Cargo.toml; do
        folder=$(dirname "$manifest")
        name=$(basename "$folder")
        if [ -f "$folder/$name.toml" ]; then put "$folder/$name.toml" "$name.toml"; fi
        put "{{ target }}/wasm32-wasip2/plugin/${name//-/_}.wasm" "$name.wasm"
    done

# Build plugins whenever a source of theirs is saved, until Ctrl-C
watch-plugins:
    #!/usr/bin/env bash
    set -euo pipefail
    built=$(mktemp)
    trap 'rm -f "$built"' EXIT
    while true; do
        touch "$built"
        just build-plugins || echo "not built; waiting for the next save" >&2
        until [ -n "$(find plugins sdk wit migrations -newer "$built" -type f -not -path 'plugins/dist/*' -print -quit)" ]; do
            sleep 0.3
        done
    done

# Run every test, on a real Postgres and a real Kafka that the tests start
test *ARGS: build-plugins build-guest
    cargo test --workspace {{ ARGS }}

# Count the instructions of the pure parts by Valgrind, against `host/tests/costs.toml`; the other costs in there are among the tests
costs *ARGS:
    cargo test --release {{ products }} --test pure {{ ARGS }}

# Measure sagas per second, latency and costs, by `--clients 1,64` or at `--rates 500,1000`; see `saga-bench load --help`
bench *ARGS: build-plugins build-release
    {{ target }}/release/saga-bench load {{ ARGS }}

# Two builds of the host against each other, A B A B on fresh data: `--a-binary FILE --b-binary FILE`; shown are the ratios B/A
bench-compare *ARGS: build-plugins build-release
    {{ target }}/release/saga-bench compare {{ ARGS }}

# Throughput as the databases fill, as figures and a drawing: `--sagas 1000000 --steps 5`
bench-growth *ARGS: build-plugins build-release
    {{ target }}/release/saga-bench growth {{ ARGS }}

# Two hosts (B) against one (A) on one Kafka and Postgres and the same cores: what it costs that they share the work
bench-hosts *ARGS="--clients 256 --pairs 5": build-plugins build-release
    {{ target }}/release/saga-bench compare --a-binary {{ target }}/release/saga-host \
        --b-binary {{ target }}/release/saga-host --b-hosts 2 {{ ARGS }}

# Flame graphs of host, Kafka and Postgres under load, in `target/profile`; needs `perf`; options as in `saga-bench load --help`
profile *ARGS: build-plugins build-release
    bench/profile.sh {{ target }} {{ ARGS }}

# Memory of a host that works off a backlog, and of one ten times as large: `--orders 100000`
backlog *ARGS: build-plugins build-release
    {{ target }}/release/saga-bench backlog {{ ARGS }}

# How soon a host is ready, and what it needs with nothing to do
idle *ARGS: build-plugins build-release
    {{ target }}/release/saga-bench idle {{ ARGS }}

# Kill, stop and swap hosts, Postgres and Kafka by a seed while orders flow, then count; options as in `saga-bench chaos --help`
chaos *ARGS: build-plugins build-release
    {{ target }}/release/saga-bench chaos {{ ARGS }}

# Check a running host (`just up`) against the wire contract, from outside
contract *ARGS: build-release
    {{ target }}/release/saga-testkit contract {{ ARGS }}

# Check formatting, lints, unused dependencies and vocabulary; no warning passes
lint:
    scripts/terms
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo machete

# Build the documentation of all crates; no warning passes
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Check licences, bans and sources of all dependencies; `just deny advisories` asks the advisory database
deny *CHECKS="licenses bans sources":
    cargo deny --all-features check {{ CHECKS }}

# The plugin that tests have misbehave
[private]
build-guest:
    cargo build --profile plugin --target wasm32-wasip2 -p misbehaving

[private]
build-release:
    cargo build --release {{ products }}

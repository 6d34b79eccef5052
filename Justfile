# `./dev TASK` first installs `just` and the wasm target where they are missing; `just TASK` needs both.
# The tasks that measure take the options of their `saga-bench` command: target/release/saga-bench --help.

set shell := ["bash", "-euo", "pipefail", "-c"]

target := env("CARGO_TARGET_DIR", "target")
# Always built together: another selection of packages builds their dependencies with other features.
products := "-p saga-host -p saga-testkit -p saga-bench"

# List the tasks
[private]
default:
    @just --list --unsorted

# Start everything, show sagas end to end and a live swap, then stay up; `--exit` ends after the last step
demo *ARGS: build-plugins build-release
    {{ target }}/release/saga-testkit demo {{ ARGS }}

# Run the development stack, a host and all plugins, until Ctrl-C; options as in `saga-host dev --help`
up *ARGS: build-plugins build-release
    {{ target }}/release/saga-host dev {{ ARGS }}

# Build every plugin and put components and policies into plugins/dist, where a running host swaps to them
build-plugins:
    #!/usr/bin/env bash
    set -euo pipefail
    packages=()
    for manifest in plugins/*/Cargo.toml; do packages+=(-p "$(basename "$(dirname "$manifest")")"); done
    cargo build --profile plugin --target wasm32-wasip2 "${packages[@]}"
    mkdir -p plugins/dist
    # A reader sees the whole old file or the whole new one. The policy comes before its component.
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

# Build plugins on every save of one of their sources, until Ctrl-C
watch-plugins:
    #!/usr/bin/env bash
    set -euo pipefail
    built=$(mktemp)
    trap 'rm -f "$built"' EXIT
    while true; do
        touch "$built"
        just build-plugins || echo "not built; waiting for the next save" >&2
        until [ -n "$(find plugins sdk wit migrations -newer "$built" -type f \
            -not -path 'plugins/dist/*' -print -quit)" ]; do
            sleep 0.3
        done
    done

# Run every test, on a real Postgres and a real Kafka that the tests start
test *ARGS: build-plugins build-guest
    cargo test --workspace {{ ARGS }}

# Count instructions of the pure parts by Valgrind, against `host/tests/costs.toml`; `test` counts the rest
costs *ARGS:
    cargo test --release {{ products }} --test pure {{ ARGS }}

# Measure sagas per second, latency and costs: `--clients 1,64` or `--rates 500,1000`
bench *ARGS: build-plugins build-release
    {{ target }}/release/saga-bench load {{ ARGS }}

# Compare two builds of the host in pairs of runs on fresh data: `--a-binary FILE --b-binary FILE`
bench-compare *ARGS: build-plugins build-release
    {{ target }}/release/saga-bench compare {{ ARGS }}

# Measure throughput as the databases fill, as figures and a drawing: `--sagas 1000000 --steps 5`
bench-growth *ARGS: build-plugins build-release
    {{ target }}/release/saga-bench growth {{ ARGS }}

# Compare two hosts (B) with one (A), on one Kafka, one Postgres and the same cores
bench-hosts *ARGS="--clients 256 --pairs 5": build-plugins build-release
    {{ target }}/release/saga-bench compare --a-binary {{ target }}/release/saga-host \
        --b-binary {{ target }}/release/saga-host --b-hosts 2 {{ ARGS }}

# Write flame graphs of host, Kafka and Postgres under load to `target/profile`; needs `perf`
profile *ARGS: build-plugins build-release
    bench/profile.sh {{ target }} {{ ARGS }}

# Measure the memory of a host that works off a backlog, and one ten times as large: `--orders 100000`
backlog *ARGS: build-plugins build-release
    {{ target }}/release/saga-bench backlog {{ ARGS }}

# Measure how soon a host is ready, and its CPU and memory with nothing to do
idle *ARGS: build-plugins build-release
    {{ target }}/release/saga-bench idle {{ ARGS }}

# Inject faults by a seed while requests flow, then check everything: `--seed 7 --seconds 60`, `--sabotage`
chaos *ARGS: build-plugins build-release
    #!/usr/bin/env bash
    set -euo pipefail
    host=()
    if [[ " {{ ARGS }} " == *" --sabotage "* ]]; then
        # With another feature only the host is compiled again. The last build is the product again.
        cargo build --release {{ products }} --features saga-host/sabotage
        mkdir -p {{ target }}/sabotage
        cp {{ target }}/release/saga-host {{ target }}/sabotage/saga-host
        cargo build --release {{ products }}
        host=(--host-binary {{ target }}/sabotage/saga-host)
    fi
    {{ target }}/release/saga-bench chaos "${host[@]}" {{ ARGS }}

# Check a running host (`just up`) against the wire contract, from outside
contract *ARGS: build-release
    {{ target }}/release/saga-testkit contract {{ ARGS }}

# Check formatting, lints, unused dependencies and replaced terms; no warning passes
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

# Build the plugins of the tests
[private]
build-guest:
    cargo build --profile plugin --target wasm32-wasip2 -p misbehaving -p booking -p trip

[private]
build-release:
    cargo build --release {{ products }}

#!/usr/bin/env bash
# Fuzzes every target, or the ones that are named, for a number of seconds each (60).
#
#   scripts/fuzz.sh [--ledger FILE] [SECONDS [TARGET...]]
#
# Prints a line of JSON per target, in the form of docs/evidence.jsonl; --ledger adds it to a file.
# Ends with an error if anything was found; the input is then in fuzz/artifacts/TARGET. Inputs that
# reach new code are kept in fuzz/target/found and are where the next run goes on.
#
# Needs: rustup toolchain install nightly, cargo install cargo-fuzz, a C++ compiler.
set -euo pipefail
cd "$(dirname "$0")/.."

ledger=/dev/null
if [ "${1:-}" = --ledger ]; then
    ledger=$2
    shift 2
fi
seconds=${1:-60}
shift || true
mapfile -t known < <(sed -n 's|^path = "targets/\(.*\).rs"|\1|p' fuzz/Cargo.toml)
targets=("${@:-${known[@]}}")

work=${CARGO_TARGET_DIR:-$PWD/fuzz/target}
export CARGO_TARGET_DIR=$work CARGO_INCREMENTAL=0
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
cargo +nightly fuzz build --fuzz-dir fuzz
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)

# The last number behind a word of the log.
number() { grep -o "$2 *[0-9]*" "$1" | tail -n 1 | grep -o '[0-9]*$' || echo 0; }

found=0
for target in "${targets[@]}"; do
    mkdir -p "$work/found/$target" "fuzz/artifacts/$target"
    folders=("$work/found/$target" "fuzz/corpus/$target")
    [ -d "fuzz/regressions/$target" ] && folders+=("fuzz/regressions/$target")
    # Sixty steps of a program; of files, more than twice the largest golden one.
    max_len=32768
    [ "$target" = operations ] && max_len=241
    log=$work/found/$target.log
    failures=0
    ASAN_OPTIONS=detect_odr_violation=0 "$work/$host/release/$target" "${folders[@]}" \
        -artifact_prefix="fuzz/artifacts/$target/" -max_total_time="$seconds" \
        -max_len="$max_len" -timeout=30 -rss_limit_mb=4096 -print_funcs=0 -print_final_stats=1 \
        >"$log" 2>&1 || failures=1
    executions=$(number "$log" 'stat::number_of_executed_units:')
    line=$(printf '{"machine":"fuzz %s","unit":"inputs","commit":"%s","command":"scripts/fuzz.sh %s %s","runs":1,"states":%s,"seconds":%s,"threads":1,"counters":{"edges":%s,"corpus":%s},"failures":%s}' \
        "$target" "$commit" "$seconds" "$target" "$executions" "$seconds" \
        "$(number "$log" ' cov:')" "$(number "$log" ' corp:')" "$failures")
    echo "$line" | tee -a "$ledger"
    if [ "$failures" = 1 ]; then
        found=1
        tail -n 40 "$log" >&2
    fi
done
exit "$found"

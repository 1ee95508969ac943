#!/usr/bin/env bash
# The model checker over the hand-offs between threads: every order in which two threads can run,
# and of three or more every order with at most three preemptions.
#
#   scripts/loom.sh          all models
#   scripts/loom.sh short    the same with at most two preemptions, in seconds
#   scripts/loom.sh broken   breaks the code in a copy, one line at a time; each time a model must fail
#
# `--cfg loom` is for these builds only; what they build lies apart from everything else.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="--cfg loom"
TARGET="${CARGO_TARGET_DIR:-$PWD/target}/loom"
export CARGO_TARGET_DIR="$TARGET"

models() {
    cargo test --quiet --package akidb-handoff --package akidb-wal --test models
}

# files ~ what is broken (sed) ~ model that must fail
BROKEN='
wal/src/group/queue.rs ~ s/state.items.len() >= state.wanted/false/ ~ an_acknowledgement_comes
wal/src/group/queue.rs ~ /ended = true/,/notify_all/ s/self.changed.notify_all();// ~ dropping_the_last_handle
wal/src/group/queue.rs ~ s/if state.items.len() >= count/if !state.ended \&\& state.items.len() >= count/; s/return if state.items.is_empty() .*$/return Wake::Ended;/ ~ dropping_the_last_handle
wal/src/group/worker.rs ~ s/must_sync && !unsynced/must_sync \&\& unsynced/ ~ two_callers
wal/src/group/handle.rs ~ s/while self.owner.drive == Drive::Inline/if self.owner.drive == Drive::Inline/ ~ callers_that_do_the_work
wal/src/group/handle.rs ~ /pub fn close/,/worker.close/ { /join()/d; /drain(/d } ~ two_closers
wal/src/group/handle.rs ~ /Err(Message::Request(request))/ s/shared.worker.lock().reject_late(request)/std::mem::forget(request)/ ~ a_close_leaves_no_write
wal/src/framed/writer.rs wal/src/log/mod.rs ~ s/planted("wal.poison-forgotten")/true/ ~ after_a_failed_sync
wal/src/log/mod.rs ~ s/planted("wal.one-file-too-many-removed")/true/ ~ giving_up_the_log
wal/src/ticket.rs ~ s/self.answered.notify_all();// ~ a_blocked_waiter
wal/src/ticket.rs ~ s/waker.wake();/drop(waker);/ ~ a_task_gets
wal/src/ticket.rs ~ /fn drop/,/^}/ s/shared.answer(.*$/drop(shared);/ ~ a_promise_that_is_dropped
wal/src/reply.rs ~ /pub fn answer/,/^    }/ s/\.wake();/;/ ~ a_reply_by_itself
wal/src/reply.rs ~ s/shared.put(Slot::Gone).wake();/drop(shared.put(Slot::Gone));/ ~ a_reply_that_is_dropped
wal/src/reply.rs ~ s/self.tasks.drain(..).for_each(Waker::wake);// ~ a_task_in_a_group
wal/src/reply.rs ~ s/std::array::from_fn(|_| state.left.pop())/[const { None }; FAN_OUT]/ ~ every_thread_of_a_group
wal/src/reply.rs ~ s/state.early += 1;// ~ who_leaves_early
handoff/src/grave.rs ~ s/buried > lsn/buried >= lsn/ ~ a_reader_sees_one_version_while_memtables
handoff/src/grave.rs ~ s/buried == 0 || buried > lsn/buried == 0/ ~ a_reader_sees_one_version_while_memtables
handoff/src/parts.rs ~ s/self.frozen.push(full);/drop(full);/ ~ a_reader_sees_one_version_while_memtables
handoff/src/parts.rs ~ s/self.frozen.retain(.*$/drop(retired);/ ~ a_reader_sees_one_version_while_a_flush
handoff/src/parts.rs ~ s/kept.extend(added);/drop(added);/ ~ a_reader_sees_one_version_while_a_flush
handoff/src/retired.rs ~ s/Arc::strong_count(part) == 1/true/ ~ a_segment_is_unmapped_and_unlinked_after_its_reader
handoff/src/retired.rs ~ s/Arc::strong_count(part) == 1/Arc::strong_count(part) <= 2/ ~ a_segment_is_unmapped_and_unlinked_after_the_last
handoff/src/tier.rs ~ /fn claim_locked/,/^    }/ s/= moving_to {/= moving_to.filter(|_| false) {/ ~ tiers::of_two_moves
handoff/src/tier.rs ~ s/if let Some(to) = moving_to {/if let Some(to) = moving_to.filter(|moving| *moving != to) {/ ~ tiers::of_three_demotions
handoff/src/tier.rs ~ s/Ordering::Release/Ordering::Relaxed/ ~ tiers::a_reader_of_the_tier
handoff/src/tier.rs ~ /pub fn seal/,/^    }/ s/lane.state.pinned \&\& to > from/false/ ~ tiers::a_pin_that_was_accepted
handoff/src/tier.rs ~ s/lane.sealed = true;// ~ tiers::a_pin_that_was_accepted
handoff/src/tier.rs ~ /fn end/,/^    }/ s/self.ended.notify_all();// ~ tiers::who_waits_for_a_promotion_gets
handoff/src/tier.rs ~ /impl Drop for Held/,/^}/ s/!self.finished/false/ ~ tiers::who_waits_for_a_promotion_that_fails
handoff/src/tier.rs ~ s/lane.state.generation != generation/false/ ~ tiers::a_decision_on_an_older_state
handoff/src/tier.rs ~ /pub fn close/,/^    }/ s/while lane.state.moving_to.is_some()/while false/ ~ tiers::a_close_waits
handoff/src/tier.rs ~ /fn claim_locked/,/^    }/ s/lane.closed/false/ ~ tiers::a_close_waits
wal/src/reply.rs ~ /impl Drop for Wakes/,/^}/ s/self.start();// ~ wakes_that_are_dropped
'

broken() {
    local copy survived=0 files change model saved
    copy=$(mktemp -d)
    # shellcheck disable=SC2064 # the name is known now
    trap "rm -rf '$copy'" EXIT
    git ls-files -z | xargs -0 cp --parents --target-directory "$copy"
    cd "$copy"
    # Apart from the models' own: cargo takes what a broken copy left there for the real thing.
    export CARGO_TARGET_DIR="$TARGET-broken"
    while IFS='~' read -r files change model; do
        [ -n "$files" ] || continue
        model="${model// /}"
        change="${change# }"
        saved=$(mktemp -d)
        # shellcheck disable=SC2086 # a list of files
        cp --parents $files "$saved"
        # shellcheck disable=SC2086
        sed -i "$change" $files
        for file in $files; do
            if cmp --quiet "$file" "$saved/$file"; then
                echo "NOTHING TO BREAK in $file: $change"
                survived=1
            fi
        done
        if ! cargo test --quiet --package "akidb-${files%%/*}" --test models --no-run </dev/null; then
            echo "DOES NOT BUILD: $files: $change"
            survived=1
        elif LOOM_MAX_PREEMPTIONS=3 timeout 300 \
            cargo test --quiet --package "akidb-${files%%/*}" --test models -- "$model" \
            >output.txt 2>&1 </dev/null; then
            # Nor does an empty selection pass for a failure.
            echo "SURVIVED $model: $files: $change"
            survived=1
        elif ! grep -q 'panicked at' output.txt; then
            echo "NO MODEL FAILED, it ended otherwise: $files: $change"
            survived=1
        else
            echo "caught by $model: $files: $change"
            grep -A 1 -m 1 'panicked at' output.txt | tail -n 1
        fi
        cp -r "$saved"/. .
        rm -rf "$saved"
    done <<<"$(sed '/^$/d; s/ ~ /~/g' <<<"$BROKEN")"
    return "$survived"
}

case "${1:-all}" in
all) models ;;
short) LOOM_MAX_PREEMPTIONS=2 models ;;
broken) broken ;;
*)
    sed -n '2,9s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac

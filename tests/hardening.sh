#!/bin/sh
# tests/hardening.sh BUILD: the hardening flags really are in the binaries, not only on the compiler's command line.
# One line per promise: "ok …" or "FAILED …"; the status is 1 when any failed.
# shellcheck disable=SC2317
set -eu
build=${1:-build}
failed=0

promise() { # what, then a command that holds when the promise is kept
    what=$1
    shift
    if "$@"; then
        echo "ok $what"
    else
        echo "FAILED $what"
        failed=1
    fi
}

is_pie() { readelf -hW "$1" | grep -q 'Type:.*DYN' && readelf -dW "$1" | grep -q 'FLAGS_1.*PIE'; }
has_relro() { readelf -lW "$1" | grep -q GNU_RELRO; }
binds_now() { readelf -dW "$1" | grep -Eq 'BIND_NOW|FLAGS_1.*NOW'; }
stack_is_not_executable() { readelf -lW "$1" | grep GNU_STACK | grep -q 'RW ' && ! readelf -lW "$1" | grep GNU_STACK | grep -q E; }
nothing_is_writable_and_executable() { ! readelf -lW "$1" | grep LOAD | grep -q 'RWE'; }
has_canaries() { readelf --dyn-syms -W "$1" | grep -q '__stack_chk_fail'; }
is_fortified() { readelf --dyn-syms -W "$1" | grep -Eq '__(mem|str|sn?|vsn?|f|vf|v)[a-z]*_chk(@|$| )'; }
has_landing_pads() { [ "$(objdump -d --no-show-raw-insn "$1" | grep -c endbr64)" -gt 100 ]; }
# Debian's start-up objects are not marked, so the linker drops the mark from the programs; our objects all carry it.
objects_are_marked() {
    find "$build/src" -name '*.o' -exec sh -c 'readelf -nW "$1" | grep -q "IBT, SHSTK" || echo "$1"' sh {} ';' | grep -q . && return 1
    return 0
}
has_no_run_path() { ! readelf -dW "$1" | grep -Eq 'RPATH|RUNPATH'; }
# -fstack-clash-protection leaves no mark in a binary: what can be checked is that every object was compiled with it.
compiled_with() { ! grep '"command"' "$build/compile_commands.json" | grep '/src/' | grep -vq -e "$1"; }

found=0
for program in sallyport sallyport-supervisor sallyport-worker sallyport-control; do
    binary=$(find "$build/src" -type f -name "$program" -perm -u+x | head -n 1)
    if [ -z "$binary" ]; then
        echo "FAILED $program: not built in $build"
        failed=1
        continue
    fi
    found=$((found + 1))
    promise "$program is a position-independent executable" is_pie "$binary"
    promise "$program: relocations are read-only" has_relro "$binary"
    promise "$program: every symbol is bound at start" binds_now "$binary"
    promise "$program: the stack is not executable" stack_is_not_executable "$binary"
    promise "$program: nothing is writable and executable" nothing_is_writable_and_executable "$binary"
    promise "$program: stack canaries" has_canaries "$binary"
    promise "$program: fortified library calls" is_fortified "$binary"
    promise "$program: no library path of the build machine" has_no_run_path "$binary"
    [ "$(uname -m)" != x86_64 ] || promise "$program: landing pads for indirect branches" has_landing_pads "$binary"
done
[ "$(uname -m)" != x86_64 ] || promise "every object allows indirect branch tracking and shadow stacks" objects_are_marked
for flag in -fstack-clash-protection -ftrivial-auto-var-init=zero -fstack-protector-strong -D_FORTIFY_SOURCE=3; do
    promise "every object was compiled with $flag" compiled_with "$flag"
done
[ "$found" -gt 0 ] || failed=1
exit $failed

#!/bin/sh
# tests/static.sh [BUILD [CLANG_BUILD]]: what can be said about the code without running it. Both are configured meson directories,
# of a gcc and of a clang build (for their compile_commands.json).
# One line per check: "ok …" or "FAILED …", then what was found; the status is 1 when any failed.
# shellcheck disable=SC2046,SC2317
set -eu
cd "$(dirname "$0")/.."
build=${1:-build}
clang_build=${2:-$build}
tools=tests/tools
failed=0
out=$(mktemp)
trap 'rm -f "$out" "$out.cfg"' EXIT

check() { # name, then a command that succeeds when there is nothing to say
    name=$1
    shift
    if "$@" >"$out" 2>&1; then
        echo "ok $name"
    else
        echo "FAILED $name"
        head -n 60 "$out" | sed 's/^/    /'
        failed=1
    fi
}

sources() { find src include tests/unit tests/fuzz -name '*.[ch]' | sort; }
scripts() { find tests conf bench .ci \( -name '*.sh' -o -path '.ci/run' \) -not -path '*/node_modules/*' | sort; }
texts() {
    find src include tests conf bench doc systemd README.md meson.build .ci -type f -not -path '*/node_modules/*' -not -path '*/corpus-*' \
        -not -name '*.pyc' 2>/dev/null
}
texts_and_corpora() {
    find src include tests conf bench doc systemd README.md meson.build .ci -type f -not -path '*/node_modules/*' -not -name '*.pyc' -not -name package-lock.json
}
none_found() { ! grep -nE "$@"; }

banned='(^|[^_[:alnum:]>.])(strcpy|strcat|stpcpy|strncpy|sprintf|vsprintf|strtok|strtok_r|atoi|atol|atoll|gets|alloca|system|popen|tmpnam|mktemp|rand|srand|gethostbyname|inet_ntoa)[[:space:]]*\('
no_banned_function() { ! sources | xargs grep -nE "$banned" | grep -vE ':[0-9]+:[[:space:]]*(/?\*|//)'; }

# A name of one machine's folder in a file says that it only works there.
no_foreign_path() { none_found '(/h[o]me/|/w[o]rk/|/r[o]ot/)' $(texts); }

files_are_short() {
    sources | grep -E '^(src|include)/' | xargs wc -l |
        awk '$2 != "total" && $1 > 600 {print $2 ": " $1 " lines"; bad = 1} END {exit bad}'
}

# What the design promises about who does what, where a search can tell.
worker_starts_nothing() {
    none_found '\b(execv|execve|execvp|fork|vfork|posix_spawn|clone)[[:space:]]*\(' $(find src/base src/loop src/http src/net src/identity \
        src/limit src/upstream src/account src/exchange -name '*.c')
}
parsers_do_no_io() { none_found '\b(socket|connect|accept|recv|send|open|fopen|read|write)[[:space:]]*\(' $(find src/http -name '*.c'); }

# flawfinder's format and access() findings are matters of its word list: the compiler checks formats (-Wformat=2) and does it better.
flawfinder_finds_nothing() {
    ! flawfinder -F --quiet --dataonly --singleline --minlevel=4 src include |
        grep -vE '\((format|race|shell)\) (v?s?n?f?printf|access|chown|readlink|execve?):?'
}

cppcheck_finds_nothing() { # leaks: it does not follow __attribute__((cleanup)); jansson's loops are macros it must be told of
    cppcheck --quiet --enable=warning,portability --inline-suppr --error-exitcode=1 --std=c11 --library=posix --library="$1" \
        -D_GNU_SOURCE -D__x86_64__ --suppress=missingIncludeSystem --suppress=resourceLeak --suppress=memleak --suppress=legacyUninitvar \
        --suppress=getgrnamCalled --suppress=getpwnamCalled --suppress=pointerOutOfBoundsCond --suppress=nullPointer:src/upstream/balance.c -j 2 -I include src
}

# Which checks, and which not and why, says .clang-tidy.
clang_tidy() {
    find src -name '*.c' | sort | xargs -P 2 -n 4 timeout 300 clang-tidy -p "$clang_build" --quiet
}

# Private keys, cloud and provider credentials, and our own API keys. It must find one that is put there, or it would prove nothing.
secretlint() { "$tools/node_modules/.bin/secretlint" --secretlintrc "$tools/secretlintrc.json" --format unix "$@"; }
no_secret_in_the_tree() {
    [ -x "$tools/node_modules/.bin/secretlint" ] || {
        echo "secretlint is not installed: cd $tools && npm ci"
        return 1
    }
    planted=$build/planted-secret
    printf 'key: %s%s\n' sp_Zz3dE6gH_ 0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJ012 >"$planted"
    if ! secretlint "$planted" | grep -q 'API key of a Sallyport gateway'; then
        echo "an API key that was planted is not found"
        return 1
    fi
    rm -f "$planted"
    secretlint $(texts_and_corpora)
}

python_parses() {
    find tests bench -name '*.py' -not -path '*/node_modules/*' -print0 |
        xargs -0 python3 -c 'import ast, sys; [ast.parse(open(path).read(), path) for path in sys.argv[1:]]'
}

check "shellcheck" shellcheck -s sh $(scripts)
check "shellcheck of the completion" shellcheck -s bash conf/completion.bash
check "python files parse" python_parses
check "no banned function" no_banned_function
check "no path of one machine" no_foreign_path
check "no file of more than 600 lines" files_are_short
check "what the worker is made of starts no program" worker_starts_nothing
check "the parsers do no input or output" parsers_do_no_io
check "no secret in the tree" no_secret_in_the_tree
check "flawfinder" flawfinder_finds_nothing
cat >"$out.cfg" <<'CFG'
<?xml version="1.0"?>
<def format="2">
  <define name="json_array_foreach(a,i,v)" value="for (i = 0; (v = json_array_get(a, i)); i++)"/>
  <define name="json_object_foreach(o,k,v)" value="for (k = 0; (v = json_object_get(o, k)); k++)"/>
  <define name="json_object_foreach_safe(o,n,k,v)" value="for (k = 0; (v = json_object_get(o, k)); k++)"/>
</def>
CFG
check "cppcheck" cppcheck_finds_nothing "$out.cfg"
check "gcc -fanalyzer" python3 tests/analyzer.py "$build"
check "clang-tidy" clang_tidy
exit $failed

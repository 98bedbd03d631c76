#!/usr/bin/python3
"""gcc -fanalyzer over every file of src/, two at a time, each bounded: analyzer.py BUILD (a meson directory of a gcc build)."""
import concurrent.futures
import json
import os
import shlex
import subprocess
import sys

SECONDS = 40
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# gcc 12 follows neither __attribute__((cleanup)) nor what is kept in a list or handed out in a struct; LeakSanitizer watches every test.
NOT_UNDERSTOOD = ["malloc-leak", "fd-leak", "file-leak"]
# (file, finding): why it is none.
KNOWN = {
    ("src/ipc/channel.c", "use-of-uninitialized-value"): "recvmsg() fills what the iovec points at",
    ("src/ipc/channel.c", "null-dereference"): "CMSG_FIRSTHDR of a buffer that is large enough",
    ("src/ipc/channel.c", "null-argument"): "the same",
    ("src/cli/key.c", "null-argument"): "fwrite() of no bytes of an empty buffer",
    ("src/config/describe.c", "null-argument"): "fwrite() of no bytes of an empty buffer",
}


def compiler_words(unit):
    words, skip = [], False
    for word in shlex.split(unit["command"]):
        if skip:
            skip = False
        elif word in ("-o", "-MQ", "-MF"):
            skip = True
        elif word not in ("-c", "-MD", "-Werror"):
            words.append(word)
    return ["gcc", *words[1:]]


def analyse(unit):
    path = os.path.relpath(os.path.join(unit["directory"], unit["file"]), ROOT)
    left_out = NOT_UNDERSTOOD + [finding for file, finding in KNOWN if file == path]
    command = ["timeout", str(SECONDS), *compiler_words(unit), "-fanalyzer", "-Werror", *(f"-Wno-analyzer-{name}" for name in left_out),
               "-S", "-o", "/dev/null"]
    done = subprocess.run(command, cwd=unit["directory"], capture_output=True, text=True)
    return (unit["file"], done.returncode, done.stderr)


def main():
    with open(os.path.join(sys.argv[1], "compile_commands.json")) as file:
        units = [unit for unit in json.load(file) if "/src/" in os.path.abspath(os.path.join(unit["directory"], unit["file"]))]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(analyse, units))
    for name, status, said in results:
        if status not in (0, 124):
            print(said)
        elif status == 124:
            print(f"{name}: not finished in {SECONDS} s")
    return 1 if not results or any(status not in (0, 124) for _, status, _ in results) else 0


sys.exit(main())

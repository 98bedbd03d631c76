"""No test waits for ever, and none hangs without a name.

pytest-timeout raises in a test after its time (pytest.ini), which serves for most: the test fails, its fixtures are torn down, the run goes on.
It cannot where nothing of Python's runs in the main thread, and it is switched off as soon as a test has failed, before its fixtures are torn
down. So: a test that is not over after SECONDS is ended with its worker and all processes they started. pytest-xdist tells of a worker that
crashed, names the test, and starts another.

$SALLYPORT_RUNNING names a file that gets a line when a test begins and when it ends; who never ends is read from there, whatever happened.
"""
import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time

SECONDS = 300  # more than pytest.ini's timeout and what a failed test needs to take down its gateways
RUNNING = os.environ.get("SALLYPORT_RUNNING")


# ---- Looking into processes ----

def read(path):
    try:
        with open(path, "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError as problem:
        return f"({problem.strerror})"


def children(pid):
    """Of all its threads."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found = [read(f"/proc/{pid}/task/{thread}/children") for thread in threads]
    return [int(child) for text in found for child in text.split() if child.isdigit()]


def tree(pid):
    """The process and all that came of it."""
    found, at = [pid], 0
    while at < len(found):
        found += [child for child in children(found[at]) if child not in found]
        at += 1
    return found


def backtrace(pid):
    try:
        shown = subprocess.run(["gdb", "-p", str(pid), "-batch", "-nx", "-ex", "thread apply all bt 30"], stdin=subprocess.DEVNULL,
                               capture_output=True, text=True, timeout=40)
    except (OSError, subprocess.TimeoutExpired) as problem:
        return f"no backtrace: {problem}"
    return "\n".join(line for line in shown.stdout.splitlines() if line.startswith(("#", "Thread")))


def story(pid):
    """What a process is doing, and those it started: for the message of a test that waited in vain."""
    told = []
    for one in tree(pid):
        status = dict(line.split(":", 1) for line in read(f"/proc/{one}/status").splitlines() if ":" in line)
        told.append(f"{one} {read(f'/proc/{one}/cmdline')!r} state{status.get('State', ' gone')} tracer{status.get('TracerPid', ' ?')}"
                    f" pending {status.get('ShdPnd', '?').strip()} stat {read(f'/proc/{one}/stat').rsplit(')', 1)[-1]}")
        for thread in sorted(os.listdir(f"/proc/{one}/task")) if os.path.isdir(f"/proc/{one}/task") else []:
            place = f"/proc/{one}/task/{thread}"
            told.append(f"  thread {thread}: waits in {read(place + '/wchan')}, system call {read(place + '/syscall')}")
            told += ["    " + line for line in read(place + "/stack").splitlines()[:12]]
        if "State" in status and one != os.getpid():
            told += ["  " + line for line in backtrace(one).splitlines()]
    return "\n".join(told)


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass


def marked(*settings):
    """Processes that were started with all of these, NAME=VALUE, in their environment, but for this one."""
    wanted, found = {setting.encode() for setting in settings}, []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if wanted <= set(file.read().split(b"\0")):
                        found.append(int(name))
            except OSError:
                pass
    return found


# ---- Who runs ----

def note(*words):
    """One line, one write: of several workers in one file."""
    if not RUNNING:
        return
    with open(RUNNING, "ab", buffering=0) as file:
        file.write(("\t".join([time.strftime("%H:%M:%S"), *words]) + "\n").encode())


def noted(path):
    """(passed, failed, left out) by the notes of a run, and what did not end: [(test, worker, when it began)]."""
    running, ends, hung = {}, {}, set()
    if not os.path.exists(path):
        return 0, 0, 0, []
    with open(path, errors="replace") as file:
        for words in (line.rstrip("\n").split("\t") for line in file):
            if len(words) == 4 and words[1] == "begins":
                running[words[2]] = (words[3], words[0])
            elif len(words) == 4 and words[1] == "ends":
                running.pop(words[2], None)
                ends[words[2]] = words[3]
            elif len(words) == 4 and words[1] == "hangs":
                hung.add(words[2])
    ends.update((test, "failed") for test in hung if test in ends)  # with another worker, which passed over it
    counts = [list(ends.values()).count(how) for how in ("passed", "failed", "skipped")]
    return (*counts, [(test, *more) for test, more in running.items()])


class Watchdog:
    """One per worker. `begins` and `ends` frame a test."""

    def __init__(self):
        self.worker = os.environ.get("PYTEST_XDIST_WORKER", "the only worker")
        # Who began and did not end before this worker was there has ended another; xdist hands it on to one after another.
        self.lethal = {test for test, *_ in noted(RUNNING)[3]} if RUNNING else set()
        self.test, self.outcome, self.timer = None, "passed", None
        self.stderr = os.fdopen(os.dup(2), "w")  # what pytest captures is lost when the process ends

    def begins(self, test):
        self.test, self.outcome = test, "passed"
        note("begins", test, self.worker)
        self.timer = threading.Timer(SECONDS, self.bite)
        self.timer.daemon = True
        self.timer.start()
        self.arm()

    def arm(self):
        """For what holds the interpreter's lock, which leaves no other thread a turn. Whoever cancels it is armed anew with the next phase."""
        faulthandler.dump_traceback_later(SECONDS + 90, exit=True, file=self.stderr)

    def ends(self, interrupted):
        faulthandler.cancel_dump_traceback_later()
        self.timer.cancel()
        if not interrupted:
            note("ends", self.test, self.outcome)

    def bite(self):
        note("hangs", self.test, self.worker)
        with open(RUNNING + ".stacks", "a") if RUNNING else self.stderr as out:
            print(f"\n{self.test} ({self.worker}) hangs for {SECONDS} s:", file=out, flush=True)
            faulthandler.dump_traceback(file=out)
            print(story(os.getpid()), file=out, flush=True)
        kill(tree(os.getpid())[1:])
        os._exit(1)


def main():
    """watchdog.py sweep NAME=VALUE: ends what was started with that and is still there. watchdog.py unfinished FILE: tests that did not end."""
    what, of = sys.argv[1:]
    if what == "sweep":
        left = marked(of)
        for pid in left:
            print(f"left behind: {pid} {read(f'/proc/{pid}/cmdline')}")
        kill(left)
    else:
        for test, worker, began in noted(of)[3]:
            print(f"FAILED {test} did not end (on {worker} since {began})")


if __name__ == "__main__":
    main()

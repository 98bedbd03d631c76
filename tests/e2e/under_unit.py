"""Runs a program as a unit's manager would: under_unit.py UNIT USER PROGRAM [ARGUMENT]...

Without systemd as the first process there is nobody to start a unit. What of it the kernel enforces by seccomp is put on here from the
unit's own lines (SystemCallFilter=, RestrictAddressFamilies=, MemoryDenyWriteExecute=), capabilities go, the account changes, and the
descriptors from 3 on are announced as sockets named by $SOCKET_NAMES.
"""
import ctypes
import errno
import os
import pwd
import socket
import subprocess
import sys

ALLOW, FAIL, EQUAL, MASKED = 0x7FFF0000, 0x00050000, 4, 7  # libseccomp: SCMP_ACT_ALLOW, SCMP_ACT_ERRNO, SCMP_CMP_EQ, SCMP_CMP_MASKED_EQ
PR_SET_NO_NEW_PRIVS, PROT_WRITE, PROT_EXEC = 38, 2, 4


class Comparison(ctypes.Structure):
    _fields_ = [("argument", ctypes.c_uint), ("operation", ctypes.c_int), ("first", ctypes.c_uint64), ("second", ctypes.c_uint64)]


seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)
seccomp.seccomp_init.restype = ctypes.c_void_p
seccomp.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Comparison)]


class Filter:
    def __init__(self, otherwise):
        self.context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(otherwise)))

    def rule(self, action, name, *comparisons):
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number < 0:  # of another architecture
            return
        if seccomp.seccomp_rule_add_array(self.context, action, number, len(comparisons), (Comparison * len(comparisons))(*comparisons)):
            raise OSError(f"no rule for {name}")

    def load(self):
        if seccomp.seccomp_load(self.context):
            raise OSError("seccomp_load")


def settings(unit):
    """(name, value) of every assignment, in the order of the file."""
    with open(unit) as file:
        lines = [line.strip() for line in file if "=" in line and not line.startswith("#")]
    return [tuple(line.split("=", 1)) for line in lines]


def expand(word):
    """The system calls of a group, and of the groups in it."""
    if not word.startswith("@"):
        return {word}
    listed = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter", word], capture_output=True, text=True, check=True,
                            timeout=60).stdout
    members = [line.split()[0] for line in listed.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
    return set().union(*(expand(member) for member in members))


def allowed_calls(unit):
    calls = set()
    for value in (value for name, value in settings(unit) if name == "SystemCallFilter"):
        words = set().union(*(expand(word) for word in value.lstrip("~").split()))
        calls = calls - words if value.startswith("~") else calls | words
    return calls | expand("@default")


def confine(unit):
    given = dict(settings(unit))
    families = Filter(ALLOW)
    known = {int(getattr(socket, name)) for name in given["RestrictAddressFamilies"].split()}
    for family in set(range(46)) - known:
        families.rule(FAIL | errno.EAFNOSUPPORT, "socket", Comparison(0, EQUAL, family, 0))
    memory = Filter(ALLOW)
    assert given["MemoryDenyWriteExecute"] == "yes"
    memory.rule(FAIL | errno.EPERM, "mmap", Comparison(2, MASKED, PROT_WRITE | PROT_EXEC, PROT_WRITE | PROT_EXEC))
    memory.rule(FAIL | errno.EPERM, "mprotect", Comparison(2, MASKED, PROT_EXEC, PROT_EXEC))
    calls = Filter(FAIL | errno.EPERM)
    for name in allowed_calls(unit):
        calls.rule(ALLOW, name)
    families.load()
    memory.load()
    calls.load()  # the last: it allows no further filter


def main():
    unit, user, *command = sys.argv[1:]
    if os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    names = os.environ.pop("SOCKET_NAMES")
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names.split(":"))), LISTEN_FDNAMES=names)
    os.umask(0o077)
    confine(unit)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()

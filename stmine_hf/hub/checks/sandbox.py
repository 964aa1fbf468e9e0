"""Run a script with few rights: no connection, no other programs, files of one folder only, limited resources.

    python -I sandbox.py SPECIFICATION.json

The specification names the script and its arguments, the folder that it may write to, the folders that it may read,
and the bounds. Those of the following that are available are written to the descriptor `report`, which is closed
before the script runs: a user namespace with neither network nor other processes (Linux), Landlock (Linux 5.13), and
limits of memory, processor time, file sizes and open files (POSIX). The file stands alone, as the script must not need
what it is checked against.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import sys
from collections.abc import Callable
from typing import Any

_NEWUSER, _NEWNET, _NEWPID, _NEWIPC = 0x10000000, 0x40000000, 0x20000000, 0x08000000
_NO_NEW_PRIVILEGES, _PARENT_DEATH_SIGNAL, _KILL = 38, 1, 9
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # system calls of Landlock, the same on all processors
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def main(file: str) -> None:
    with open(file, encoding="utf-8") as opened:
        wanted = json.load(opened)
    used = [name for name, apply in _LAYERS.items() if _applied(apply, wanted)]
    with open(wanted["report"], "w", encoding="utf-8") as report:
        json.dump(used, report)
    sys.argv = [wanted["script"], *wanted["arguments"]]
    runpy.run_path(wanted["script"], run_name="__main__")


def _applied(apply: Callable[[dict[str, Any]], None], wanted: dict[str, Any]) -> bool:
    try:
        apply(wanted)
    except (OSError, AttributeError, ImportError, ValueError):  # not available on this system, or not allowed here
        return False
    return True


def _namespaces(wanted: dict[str, Any]) -> None:
    """No network and no view of other processes; when the first process ends, all end."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    _checked(libc.unshare(_NEWUSER | _NEWNET | _NEWPID | _NEWIPC))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    child = os.fork()
    if child:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os._exit(status if status >= 0 else 128 - status)
    _checked(libc.prctl(_PARENT_DEATH_SIGNAL, _KILL, 0, 0, 0))


def _landlock(wanted: dict[str, Any]) -> None:
    """Files are read in some folders and written in one; no program is started; no TCP on newer kernels."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = _checked(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1))
    rights = 2 ** {1: 13, 2: 14}.get(version, 15) - 1
    handled = _Ruleset(rights, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = _checked(libc.syscall(_CREATE_RULESET, ctypes.byref(handled), ctypes.c_size_t(size), 0))
    places = [(place, _READ_FILE | _READ_DIR) for place in wanted["readable"]]
    places += [(wanted["writable"], rights & ~_EXECUTE), ("/dev", _READ_FILE | _READ_DIR | _WRITE_FILE)]
    for place, allowed in places:
        if not os.path.exists(place):
            continue
        descriptor = os.open(place, os.O_PATH | os.O_CLOEXEC)
        if not os.path.isdir(place):
            allowed &= _READ_FILE | _WRITE_FILE
        rule = _Beneath(allowed, descriptor)
        _checked(libc.syscall(_ADD_RULE, ruleset, 1, ctypes.byref(rule), 0))
        os.close(descriptor)
    _checked(libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _limits(wanted: dict[str, Any]) -> None:
    import resource

    for name, most in wanted["limits"].items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


_LAYERS = {"namespaces": _namespaces, "Landlock": _landlock, "limits": _limits}

if __name__ == "__main__":
    main(sys.argv[1])

"""Makes an interpreter look to our code like one on a system without POSIX, as far as Python can tell.

`pretend()` takes away what such a system lacks: functions and signals by name, from the sight of this project's modules alone, for libraries have
code of their own for every system. Modules by import. And three behaviours: a loop of asyncio that watches neither signals nor descriptors, a
`select` that knows sockets only, and files that cannot be replaced while they are open.

So a program that begins with it shows that our code needs nothing of what is gone. It does not show that such a system has everything else.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import os
import select
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["MISSING_MODULES", "MISSING_NAMES", "pretend"]

OURS = ("backpack_proto", "backpack_runtime", "__main__")
LIBRARIES = (
    *(
        "anyio",
        "trio",
        "filelock",
        "rich.console",
        "rich.live",
        "ssl",
        "subprocess",
        "tempfile",
        "getpass",
        "concurrent.futures.thread",
    ),
    *("anyio._backends._asyncio", "anyio._backends._trio"),
)
"""Loaded before modules are taken away."""
MISSING_MODULES = frozenset(
    {"fcntl", "grp", "nis", "posix", "pty", "pwd", "readline", "resource", "spwd", "syslog", "termios", "tty", "uvloop"}
)
MISSING_NAMES: dict[str, frozenset[str]] = {
    "asyncio": frozenset({"add_signal_handler", "create_unix_connection", "create_unix_server", "open_unix_connection"}),
    "os": frozenset(
        {
            *("chown", "chroot", "ctermid", "fdatasync", "fork", "forkpty", "fchown", "fpathconf", "fstatvfs", "getegid"),
            *("geteuid", "getgid", "getgroups", "getloadavg", "getpgid", "getpgrp", "getpriority", "getresgid", "getresuid"),
            *("getsid", "getuid", "initgroups", "killpg", "lockf", "lchown", "major", "makedev", "minor", "mkfifo", "mknod"),
            *("nice", "openpty", "pathconf", "pidfd_open", "pipe2", "posix_fadvise", "posix_fallocate", "posix_openpt"),
            *("posix_spawn", "posix_spawnp", "pread", "preadv", "pwrite", "pwritev", "readv", "register_at_fork"),
            *("sched_getaffinity", "sched_setaffinity", "sched_yield", "sendfile", "setegid", "seteuid", "setgid", "setgroups"),
            *("setpgid", "setpriority", "setregid", "setreuid", "setsid", "setuid", "statvfs", "sync", "sysconf", "tcgetpgrp"),
            *("tcsetpgrp", "ttyname", "uname", "wait", "wait3", "wait4", "waitid", "writev"),
            *("O_ASYNC", "O_CLOEXEC", "O_DIRECT", "O_DIRECTORY", "O_DSYNC", "O_NDELAY", "O_NOATIME", "O_NOCTTY", "O_NOFOLLOW"),
            *("O_NONBLOCK", "O_PATH", "O_RSYNC", "O_SYNC", "O_TMPFILE"),
        }
    ),
    "select": frozenset({"PIPE_BUF", "devpoll", "epoll", "kqueue", "poll"}),
    "signal": frozenset(
        {
            *(
                "SIGALRM",
                "SIGBUS",
                "SIGCHLD",
                "SIGCONT",
                "SIGHUP",
                "SIGIO",
                "SIGKILL",
                "SIGPIPE",
                "SIGQUIT",
                "SIGSTOP",
                "SIGSYS",
            ),
            *("SIGTRAP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGXCPU", "SIGXFSZ"),
            *("SIG_BLOCK", "SIG_SETMASK", "SIG_UNBLOCK", "alarm", "getitimer", "pause", "pidfd_send_signal", "pthread_kill"),
            *("pthread_sigmask", "setitimer", "siginterrupt", "sigpending", "sigtimedwait", "sigwait", "sigwaitinfo"),
        }
    ),
    "socket": frozenset({"AF_UNIX", "CMSG_LEN", "SCM_RIGHTS", "SO_REUSEPORT", "recv_fds", "send_fds", "sethostname"}),
    "time": frozenset(
        {
            *("CLOCK_BOOTTIME", "CLOCK_MONOTONIC", "CLOCK_MONOTONIC_RAW", "CLOCK_PROCESS_CPUTIME_ID", "CLOCK_REALTIME"),
            *("CLOCK_TAI", "CLOCK_THREAD_CPUTIME_ID", "clock_getres", "clock_gettime", "clock_gettime_ns", "clock_settime"),
            *("pthread_getcpuclockid", "tzset"),
        }
    ),
}
"""What only some systems have, by module. `asyncio` stands for its loops as well."""


def pretend() -> None:
    """Take away everything. It cannot be undone, so this is for a process of its own."""
    for library in LIBRARIES:
        importlib.import_module(library)
    for module in (os, select, signal, socket, time):
        module.__class__ = _Lacking
    for missing in MISSING_MODULES:
        sys.modules.pop(missing, None)
    sys.meta_path.insert(0, _Absent())
    for method in ("add_signal_handler", "remove_signal_handler", "add_reader", "remove_reader", "add_writer", "remove_writer"):
        setattr(asyncio.SelectorEventLoop, method, _asyncio_only(getattr(asyncio.SelectorEventLoop, method)))
    select.select = _sockets_only(select.select)
    for name in ("replace", "rename"):
        setattr(os, name, _unless_open(getattr(os, name)))


class _Lacking(ModuleType):
    """A module in which our code does not find some names."""

    def __getattribute__(self, name: str) -> Any:
        module = ModuleType.__getattribute__(self, "__name__")
        if name in MISSING_NAMES[module] and sys._getframe(1).f_globals["__name__"].split(".")[0] in OURS:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return ModuleType.__getattribute__(self, name)


class _Absent(MetaPathFinder):
    def find_spec(self, fullname: str, _path: Any, _target: Any = None) -> ModuleSpec | None:
        if fullname in MISSING_MODULES:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def _asyncio_only(real: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse a method of a loop to everybody but asyncio, which uses it for itself."""

    def method(*arguments: Any) -> Any:
        if not sys._getframe(1).f_globals["__name__"].startswith("asyncio."):
            raise NotImplementedError
        return real(*arguments)

    return method


def _sockets_only(real: Callable[..., Any]) -> Callable[..., Any]:
    def wait(reading: Sequence[Any], writing: Sequence[Any], special: Sequence[Any], timeout: float | None = None) -> Any:
        for one in (*reading, *writing, *special):
            descriptor = one if isinstance(one, int) else one.fileno()
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                raise OSError(errno.ENOTSOCK, "An operation was attempted on something that is not a socket")
        return real(reading, writing, special, timeout)

    return wait


def _unless_open(real: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    def replace(source: Any, target: Any) -> None:
        opened = set()
        for descriptor in Path("/proc/self/fd").iterdir():
            try:
                opened.add(str(descriptor.readlink()))
            except FileNotFoundError:
                continue  # that of the listing itself
        for path in (source, target):
            if os.path.realpath(path) in opened:
                raise PermissionError(errno.EACCES, "The process cannot access the file because it is being used", str(path))
        real(source, target)

    return replace

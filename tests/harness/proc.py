"""What the kernel says about processes: the independent witness of the tests."""

import os

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def _read(path):
    with open(path, "rb") as file:
        return file.read()


def stat_fields(pid, tid=None):
    """Fields of /proc/PID/stat (or of one thread), from `state` (field 3) on, as texts."""
    where = f"/proc/{pid}/stat" if tid is None else f"/proc/{pid}/task/{tid}/stat"
    return _read(where).decode().rsplit(")", 1)[1].split()


def is_running(pid):
    """Whether pid exists and is no zombie."""
    try:
        return stat_fields(pid)[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def state_of(pid):
    """The state letter of a process, "" if there is none."""
    try:
        return stat_fields(pid)[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def parent_of(pid):
    """The parent's pid."""
    return int(stat_fields(pid)[1])


def children_of(pid):
    """Pids whose parent is pid, zombies included."""
    return [child for child in all_pids() if _is_child(child, pid)]


def _is_child(child, pid):
    try:
        return parent_of(child) == pid
    except (FileNotFoundError, ProcessLookupError):
        return False


def all_pids():
    """Every pid of the machine."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def has_environment(pid, entry):
    """Whether this process was started with this NAME=VALUE."""
    return _has_environment(pid, entry.encode())


def pids_with_environment(entry):
    """Running processes that were started with this NAME=VALUE, whoever their parent is by now."""
    wanted = entry.encode()
    return [pid for pid in all_pids() if _has_environment(pid, wanted) and is_running(pid)]


def _has_environment(pid, wanted):
    try:
        return wanted in _read(f"/proc/{pid}/environ").split(b"\0")
    except OSError:
        return False


def descriptors(pid):
    """The open descriptors of a process: number -> what it points to."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
    return found


def threads(pid):
    """The thread ids of a process."""
    return {int(name) for name in os.listdir(f"/proc/{pid}/task")}


def status_bytes(pid, name):
    """A field of /proc/PID/status that is in kB, such as VmRSS, in bytes."""
    for line in _read(f"/proc/{pid}/status").decode().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc/{pid}/status has no {name}")


def rss_bytes(pid):
    """The resident set of a process."""
    return status_bytes(pid, "VmRSS")


def thread_cpu_ns(pid, tid):
    """Nanoseconds of CPU that one thread has used, as the scheduler accounts them."""
    return int(_read(f"/proc/{pid}/task/{tid}/schedstat").split()[0])

"""What the kernel tells about processes and about the machine."""

import os
import platform
import resource
import subprocess


def read(path):
    """The text of a file, "" if it cannot be had."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


# --- processes


def threads(pid):
    """Ids of the threads of a process."""
    return [int(name) for name in os.listdir(f"/proc/{pid}/task")]


def cpu_ns(pid):
    """CPU time that the threads of a process have used, as the scheduler accounts it."""
    return sum(int(read(f"/proc/{pid}/task/{tid}/schedstat").split()[0]) for tid in threads(pid))


def switches(pid):
    """Context switches of the threads of a process: voluntary, involuntary."""
    voluntary = involuntary = 0
    for tid in threads(pid):
        for line in read(f"/proc/{pid}/task/{tid}/status").splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                voluntary += int(line.split()[1])
            elif line.startswith("nonvoluntary_ctxt_switches"):
                involuntary += int(line.split()[1])
    return voluntary, involuntary


def pss_bytes(pid):
    """What a process holds of the machine's memory, shared pages by halves."""
    for line in read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/{pid}/smaps_rollup has no Pss")


def cpu_of_children():
    """Seconds of CPU that ended children, and what they had waited for, have used."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def own_cpu():
    """The same, and ours."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime + cpu_of_children()


# --- the machine


def _cpu_model():
    for line in read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _memory_bytes():
    for line in read("/proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def _version(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return None
    return (done.stdout or done.stderr).strip().splitlines()[0] if done.stdout or done.stderr else None


def machine():
    """What it was measured on."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "system": next((line.split("=", 1)[1].strip('"') for line in read("/etc/os-release").splitlines()
                        if line.startswith("PRETTY_NAME=")), None),
        "memory_bytes": _memory_bytes(),
        "hypervisor": "hypervisor" in read("/proc/cpuinfo").split("flags", 1)[-1].split("\n", 1)[0],
        "libmicrohttpd": _version("pkg-config", "--modversion", "libmicrohttpd"),
        "jansson": _version("pkg-config", "--modversion", "jansson"),
    }


class Noise:
    """How much of the machine went to others while we measured."""

    def __init__(self):
        self._before = self._read()

    @staticmethod
    def _read():
        fields = [int(field) for field in read("/proc/stat").split("\n", 1)[0].split()[1:9]]
        pressure = read("/proc/pressure/cpu").split("total=")
        return {"total": sum(fields), "idle": fields[3] + fields[4], "steal": fields[7],
                "pressure_us": int(pressure[1].split()[0]) if len(pressure) > 1 else None}

    def since(self, own_cpu_seconds=None):
        """Shares of the machine's time, in percent; others' needs what we have used ourselves."""
        now = self._read()
        total = max(now["total"] - self._before["total"], 1)
        idle = now["idle"] - self._before["idle"]
        steal = now["steal"] - self._before["steal"]
        found = {"steal_percent": round(100 * steal / total, 2),
                 "busy_percent": round(100 * (total - idle) / total, 2)}
        if now["pressure_us"] is not None:
            seconds = total / os.sysconf("SC_CLK_TCK") / os.cpu_count()
            found["cpu_pressure_percent"] = round(
                (now["pressure_us"] - self._before["pressure_us"]) / seconds / 1e4, 2)
        if own_cpu_seconds is not None:
            own = own_cpu_seconds * os.sysconf("SC_CLK_TCK")
            found["others_percent"] = round(max(0.0, 100 * (total - idle - steal - own) / total), 2)
        return found

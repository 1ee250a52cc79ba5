"""What every job document promises, wherever it was read."""

import datetime
import re
import uuid

JOB_MEMBERS = {"id", "task", "pool", "state", "attempt", "result", "error", "timing", "memory",
               "switches", "worker", "stdout", "stderr", "labels", "timeout_ms", "batch",
               "submitted_at", "started_at", "finished_at"}
TIMING_MEMBERS = {"queued_ms", "dispatch_ms", "run_ms", "collect_ms", "total_ms", "cpu_user_ms",
                  "cpu_system_ms"}
MEMORY_MEMBERS = {"peak_bytes", "baseline_bytes", "source", "scope", "heap_peak_bytes",
                  "host_rss_bytes", "minor_faults", "major_faults"}
WORKER_MEMBERS = {"pid", "tid", "host", "thread", "generation", "jobs_before"}
LIVE_STATES = ("queued", "running", "stopping")
ENDED_STATES = ("succeeded", "failed", "timed_out", "cancelled", "crashed")
CAUSES_OF_STATE = {"failed": ("task_error", "output_limit"), "timed_out": ("wall_limit",),
                   "cancelled": ("cancelled",),
                   "crashed": ("signal", "exit_status", "host_lost")}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z")

# Five numbers rounded to microseconds.
TIMING_TOLERANCE_MS = 0.01


def instant(text):
    """A time of the API as a datetime."""
    if not TIME.match(text):
        raise AssertionError(f"not RFC 3339 in UTC with microseconds: {text!r}")
    return datetime.datetime.fromisoformat(text)


def check_job(job):
    """Fails if a job document breaks what all of them promise."""
    try:
        _check_members(job)
        _check_times(job)
        _check_end(job)
    except (AssertionError, KeyError, TypeError, ValueError) as wrong:
        raise AssertionError(f"a job document is wrong: {wrong!r}: {job}") from wrong


def _check_members(job):
    _require(set(job) == JOB_MEMBERS, f"members {set(job) ^ JOB_MEMBERS}")
    uuid.UUID(job["id"])
    _require(job["state"] in LIVE_STATES + ENDED_STATES, "state")
    _require(set(job["timing"]) == TIMING_MEMBERS, "members of timing")
    for name in ("stdout", "stderr"):
        output = job[name]
        expected = {"text", "total_bytes", "truncated"} | ({"tail"} if output["truncated"] else set())
        _require(set(output) == expected, f"members of {name}")
    if job["memory"] is not None:
        _require(set(job["memory"]) == MEMORY_MEMBERS, "members of memory")
        _require(set(job["switches"]) == {"voluntary", "involuntary"}, "members of switches")
    if job["worker"] is not None:
        _require(set(job["worker"]) == WORKER_MEMBERS, "members of worker")


def _check_times(job):
    times = [instant(job[name]) for name in ("submitted_at", "started_at", "finished_at")
             if job[name] is not None]
    _require(times == sorted(times), "order of the times")
    for name, value in job["timing"].items():
        _require(value is None or value >= 0, f"negative {name}")


def _check_end(job):
    ended = job["state"] in ENDED_STATES
    _require((job["finished_at"] is not None) == ended, "finished_at")
    _require(job["timing"]["total_ms"] is not None or not ended, "total_ms")
    _require(job["result"] is None or job["state"] == "succeeded", "result")
    causes = CAUSES_OF_STATE.get(job["state"])
    if causes is None:
        _require(job["error"] is None, "error of a job without one")
    else:
        _require(job["error"]["code"] in causes and job["error"]["message"], "error")
    if job["state"] == "succeeded":
        _check_sum(job["timing"])


def _check_sum(timing):
    parts = sum(timing[name] for name in ("queued_ms", "dispatch_ms", "run_ms", "collect_ms"))
    _require(abs(parts - timing["total_ms"]) <= TIMING_TOLERANCE_MS, "sum of the timing")


def _require(condition, what):
    if not condition:
        raise AssertionError(what)

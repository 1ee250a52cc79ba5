"""What every job document promises, wherever it was read."""

import datetime
import re
import uuid

JOB_MEMBERS = {"id", "task", "pool", "state", "attempt", "result", "error", "timing", "memory",
               "switches", "worker", "stdout", "stderr", "labels", "priority", "max_attempts",
               "queue_position", "scheduled_for", "progress", "timeout_ms", "limits", "previous_attempts",
               "batch", "durable", "callback_url", "submitted_at", "started_at", "finished_at"}
LIMITS_MEMBERS = {"queue_ttl_ms", "cpu_ms", "memory_bytes", "output_bytes", "on_output"}
ATTEMPT_MEMBERS = {"attempt", "state", "error", "timing", "memory", "switches", "worker",
                   "started_at", "finished_at"}
PARTS = ("queued_ms", "dispatch_ms", "run_ms", "collect_ms")
TIMING_MEMBERS = {"queued_ms", "dispatch_ms", "run_ms", "collect_ms", "total_ms", "cpu_user_ms",
                  "cpu_system_ms"}
MEMORY_MEMBERS = {"peak_bytes", "baseline_bytes", "source", "scope", "heap_peak_bytes",
                  "host_rss_bytes", "minor_faults", "major_faults"}
WORKER_MEMBERS = {"pid", "tid", "host", "thread", "generation", "jobs_before"}
LIVE_STATES = ("scheduled", "queued", "running", "stopping")
ENDED_STATES = ("succeeded", "failed", "timed_out", "cancelled", "crashed", "expired")
CAUSES_OF_STATE = {"failed": ("task_error", "memory_limit", "output_limit"),
                   "timed_out": ("wall_limit", "cpu_limit"),
                   "cancelled": ("cancelled",),
                   "crashed": ("signal", "exit_status", "host_lost"),
                   "expired": ("queue_ttl",)}
RETRIED_STATES = ("failed", "timed_out", "crashed")
LIMIT_OF_CAUSE = {"wall_limit": "ms", "cpu_limit": "ms", "queue_ttl": "ms",
                  "memory_limit": "bytes", "output_limit": "bytes"}
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
        _check_attempts(job)
    except (AssertionError, KeyError, TypeError, ValueError) as wrong:
        raise AssertionError(f"a job document is wrong: {wrong!r}: {job}") from wrong


def check_whole_sum(job):
    """The parts of a job that ran at once and only once make up its total."""
    timing = job["timing"]
    parts = sum(timing[name] for name in PARTS)
    _require(abs(parts - timing["total_ms"]) <= TIMING_TOLERANCE_MS, f"sum of the timing: {job}")


def most_at_once(jobs):
    """How many of these ended jobs ran at the same time at most, by their own times."""
    changes = sorted(change for job in jobs if job["started_at"] is not None
                     for change in ((instant(job["started_at"]), 1),
                                    (instant(job["finished_at"]), -1)))
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    return most


def _check_members(job):
    _require(set(job) == JOB_MEMBERS, f"members {set(job) ^ JOB_MEMBERS}")
    uuid.UUID(job["id"])
    _require(job["state"] in LIVE_STATES + ENDED_STATES, "state")
    _check_run_members(job)
    _require(set(job["limits"]) == LIMITS_MEMBERS, "members of limits")
    _require((job["scheduled_for"] is not None) == (job["state"] == "scheduled"), "scheduled_for")
    _require(job["queue_position"] is None or job["state"] == "queued", "queue_position")
    _require(isinstance(job["durable"], bool), "durable")
    for name in ("stdout", "stderr"):
        output = job[name]
        expected = {"text", "total_bytes", "truncated"} | ({"tail"} if output["truncated"] else set())
        _require(set(output) == expected, f"members of {name}")


def _check_run_members(run):
    """What a job and one of its earlier attempts have in common."""
    _require(set(run["timing"]) == TIMING_MEMBERS, "members of timing")
    if run["memory"] is not None:
        _require(set(run["memory"]) == MEMORY_MEMBERS, "members of memory")
        _require(set(run["switches"]) == {"voluntary", "involuntary"}, "members of switches")
    if run["worker"] is not None:
        _require(set(run["worker"]) == WORKER_MEMBERS, "members of worker")


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
        _check_error(job["error"], causes)
    if job["state"] == "succeeded":
        _check_sum(job)


def _check_error(error, causes):
    _require(error["code"] in causes and error["message"], "error")
    unit = LIMIT_OF_CAUSE.get(error["code"])
    for name in ("ms", "bytes"):
        for which in ("limit", "seen"):
            _require((f"{which}_{name}" in error) == (name == unit), f"{which}_{name} of the error")


def _check_sum(job):
    """The parts make up the total, but for what lay before the last attempt was queued."""
    timing = job["timing"]
    parts = sum(timing[name] for name in PARTS)
    _require(parts - timing["total_ms"] <= TIMING_TOLERANCE_MS, "sum of the timing")


def _check_attempts(job):
    """Earlier attempts are numbered without a gap; each has ended badly, in the order of time."""
    previous = job["previous_attempts"]
    _require([entry["attempt"] for entry in previous] == list(range(1, len(previous) + 1)),
             "numbers of the attempts")
    _require(job["attempt"] in (len(previous), len(previous) + 1), "attempt")
    _require(job["attempt"] <= job["max_attempts"], "more attempts than are allowed")
    before = instant(job["submitted_at"])
    for entry in previous:
        _require(set(entry) == ATTEMPT_MEMBERS, "members of an attempt")
        _check_run_members(entry)
        _require(entry["state"] in RETRIED_STATES, "state of an attempt")
        _check_error(entry["error"], CAUSES_OF_STATE[entry["state"]])
        _check_total(job, entry)
        for name in ("started_at", "finished_at"):
            if entry[name] is not None:
                _require(before <= instant(entry[name]), "order of the attempts")
                before = instant(entry[name])


def _check_total(job, attempt):
    """No attempt took longer than the job had been there; null if the service was lost under it."""
    total = attempt["timing"]["total_ms"]
    age = instant(attempt["finished_at"]) - instant(job["submitted_at"])
    _require(total is None or total <= age.total_seconds() * 1000 + 1, "total_ms of an attempt")


def _require(condition, what):
    if not condition:
        raise AssertionError(what)

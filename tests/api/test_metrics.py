"""GET /metrics: the format, and the same numbers as GET /stats."""

import json
import math
import os
import unittest

from tests.harness import proc, prometheus
from tests.harness.case import ServiceCase
from tests.harness.client import METRICS_TYPE
from tests.harness.documents import instant
from tests.harness.events import EventStream
from tests.harness.service import SOURCE
from tests.harness.timing import wait_until

HISTOGRAMS = {"queued_ms": "twinpool_job_queued_seconds", "run_ms": "twinpool_job_run_seconds",
              "total_ms": "twinpool_job_duration_seconds"}
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
WORKER_STATES = ("idle", "busy", "stopping", "starting", "draining", "backoff")
# What /stats does not have.
MORE = {"twinpool_build_info", "twinpool_ready", "twinpool_http_responses_total",
        "twinpool_queue_limit_jobs", "twinpool_queue_limit_bytes", "process_open_fds",
        "process_max_fds", "process_threads", "process_virtual_memory_bytes"}
LABELS = {"pool", "state", "cause", "reason", "method", "route", "code", "mode", "version", "le"}


def of_server(stats):
    """What /stats says of the server, as /metrics names it."""
    server, jobs = stats["server"], stats["jobs"]
    user, system = server["cpu_user_ms"] / 1000, server["cpu_system_ms"] / 1000
    yield "process_start_time_seconds", {}, instant(stats["started_at"]).timestamp()
    yield "process_cpu_seconds_total", {}, user + system
    yield "process_resident_memory_bytes", {}, server["rss_bytes"]
    yield "twinpool_server_cpu_seconds_total", {"mode": "user"}, user
    yield "twinpool_server_cpu_seconds_total", {"mode": "system"}, system
    yield "twinpool_http_connections", {}, server["connections"]
    yield "twinpool_http_connections_accepted_total", {}, server["connections_accepted"]
    yield "twinpool_http_requests_total", {}, server["requests"]
    yield "twinpool_http_requests_open", {}, server["requests_open"]
    yield "twinpool_http_requests_waiting", {}, server["requests_waiting"]
    yield "twinpool_event_readers", {}, server["streams_open"]
    yield "twinpool_jobs_live", {}, jobs["live"]
    yield "twinpool_jobs_kept", {}, jobs["kept"]
    yield "twinpool_jobs_kept_bytes", {}, jobs["kept_bytes"]
    yield "twinpool_jobs_forgotten_total", {}, jobs["forgotten"]
    yield "twinpool_waiters", {}, jobs["waiters"]


def of_pool(name, pool):
    """What /stats says of a pool, as /metrics names it."""
    workers = pool["worker_list"]
    plain = {
        "twinpool_pool_hosts": pool["hosts"], "twinpool_pool_hosts_min": pool["min_hosts"],
        "twinpool_pool_hosts_max": pool["max_hosts"],
        "twinpool_pool_hosts_spare": pool["spare_hosts"],
        "twinpool_pool_threads_per_host": pool["threads"], "twinpool_pool_paused": pool["paused"],
        "twinpool_pool_resident_memory_bytes":
            sum(worker["rss_bytes"] or 0 for worker in workers if worker["thread"] == 0),
        "twinpool_queue_length": pool["queue"]["length"],
        "twinpool_queue_bytes": pool["queue"]["bytes"],
        "twinpool_queue_oldest_wait_seconds": pool["queue"]["oldest_wait_ms"] / 1000,
        "twinpool_longest_run_seconds":
            max(worker["busy_ms"] or 0 for worker in workers) / 1000,
        "twinpool_jobs_scheduled": pool["scheduled"],
        "twinpool_jobs_submitted_total": pool["submitted"],
        "twinpool_jobs_rejected_total": pool["rejected"],
        "twinpool_job_retries_total": pool["retries"],
    }
    for family, value in plain.items():
        yield family, {"pool": name}, value
    states = [worker["state"] for worker in workers]
    labelled = {
        "twinpool_workers": ("state", {state: states.count(state) for state in WORKER_STATES}),
        "twinpool_worker_slots":
            ("state", {state: pool["workers"][state] for state in ("busy", "idle", "down")}),
        "twinpool_jobs_ended_total": ("state", pool["ended"]),
        "twinpool_jobs_unsuccessful_total": ("cause", pool["ended_by_cause"]),
        "twinpool_host_restarts_total": ("reason", pool["restarts"]["by_reason"]),
    }
    for family, (label, values) in labelled.items():
        for value, count in values.items():
            yield family, {"pool": name, label: value}, count


def samples_of(stats):
    """All of a /stats document but the latencies: (family, labels) -> value."""
    found = list(of_server(stats))
    for name, pool in stats["pools"].items():
        found += of_pool(name, pool)
    return {(family, tuple(sorted(labels.items()))): float(value)
            for family, labels, value in found}


class MetricsCase(ServiceCase):
    """A small queue, so that it can be full, and a pool that nobody uses."""

    config = {"server": {"shutdown_grace_ms": 0},
              "pools": {"process": {"hosts": 2, "queue_jobs": 3, "max_hosts": 3,
                                    "grow_after_ms": 3600000},
                        "idle_a-b": {"hosts": 1}}}

    def metrics(self):
        """GET /metrics, read."""
        answer = self.http.get("/metrics")
        self.assertEqual((answer.status, answer.headers["Content-Type"]), (200, METRICS_TYPE))
        return prometheus.parse(answer.body)

    def run_all_kinds(self):
        """One end of every kind, a retry, a refusal, and jobs in every place; answers what runs."""
        for n in range(20):
            self.http.run("echo", n, "process")
            self.http.run("sleep", {"ms": n}, "thread")
        self.http.run("sha256", {}, "thread", max_attempts=3, retry={"backoff_ms": 0})
        self.http.run("sleep", {"ms": 60000}, "thread", timeout_ms=30)
        self.http.run("crash", None, "process")
        self.wait_all_workers()
        running = self.fill_pool("process", 3600000)
        self.http.run("echo", 1, "process", queue_ttl_ms=10)
        queued = [self.http.start("echo", "x" * 100, "process")["id"] for _ in range(2)]
        self.http.start("echo", 1, "process", delay_ms=3600000)
        self.assert_status(self.http.submit("echo", 1, "process"), 503)
        self.cancel_all(queued[:1])
        self.http.get("/nothing")
        return running


class FormatTest(MetricsCase):
    """What a scraper is promised."""

    def test_it_is_well_formed_before_and_after_there_is_something_to_count(self):
        """By the strict reader, with the same families and the same samples."""
        before = self.metrics()
        self.run_all_kinds()
        after = self.metrics()
        self.assertEqual(list(before), list(after))
        for name, family in after.items():
            self.assertEqual(list(before[name].samples), list(family.samples), name)

    def test_no_label_comes_from_a_request(self):
        """Whatever is asked for, there is no sample more, and nothing of it shows."""
        before = self.metrics()
        self.http.run("echo", "secret-argument", "thread", labels={"secret-label": "secret-value"})
        self.http.get("/secret-path")
        self.http.get("/jobs/secret-id")
        self.http.request("BREW", "/jobs")
        self.http.submit("secret-task")
        after = self.metrics()
        for name, family in after.items():
            self.assertEqual(list(before[name].samples), list(family.samples), name)
            for suffix, labels in family.samples:
                self.assertLessEqual(set(dict(labels)), LABELS, (name, suffix))
        self.assertNotIn(b"secret", self.http.get("/metrics").body)

    @unittest.skipUnless(prometheus.has_promtool(), "promtool is not installed")
    def test_promtool_has_nothing_to_say(self):
        """Prometheus' own checker accepts it without a warning."""
        self.run_all_kinds()
        status, said = prometheus.promtool("check", "metrics",
                                           data=self.http.get("/metrics").body)
        self.assertEqual((status, said), (0, ""))

    @unittest.skipUnless(prometheus.has_promtool(), "promtool is not installed")
    def test_promtool_would_have_said_something(self):
        """The same checker complains of a family without its help."""
        body = self.http.get("/metrics").body.replace(b"# HELP twinpool_ready", b"# help", 1)
        status, said = prometheus.promtool("check", "metrics", data=body)
        self.assertNotEqual(status, 0)
        self.assertIn("twinpool_ready", said)


class SameNumbersTest(MetricsCase):
    """/metrics lies between the /stats before it and the /stats after it."""

    def look(self):
        """stats, metrics, stats."""
        return self.http.stats(), self.metrics(), self.http.stats()

    def assert_same(self, before, metrics, after):
        """What did not change in between is equal, what did lies between; nothing is missing."""
        first, last = samples_of(before), samples_of(after)
        given = {(name, labels): value for name, family in metrics.items()
                 if family.kind != "histogram" and name not in MORE
                 for (_, labels), value in family.samples.items()}
        self.assertEqual(set(given), set(first))
        for key, value in given.items():
            low, high = sorted((first[key], last[key]))
            exact = 1e-6 if "seconds" in key[0] else 0  # /stats has microseconds
            if key[0].endswith("resident_memory_bytes"):
                exact = 4 << 20  # it may go up and come down in between
            self.assertTrue(low - exact <= value <= high + exact, (key, low, value, high))

    def assert_histograms(self, stats, metrics):
        """Count, mean and every percentile of /stats are borne out by the buckets."""
        for pool, entry in stats["pools"].items():
            for key, name in HISTOGRAMS.items():
                latency, family = entry["latency"][key], metrics[name]
                count = family.value("_count", pool=pool)
                self.assertEqual(count, latency["count"])
                total = family.value("_sum", pool=pool)
                self.assertAlmostEqual(total / count if count else 0, latency["mean"] / 1000,
                                       delta=1e-6)
                for quantile, part in QUANTILES.items() if count else ():
                    self.assert_quantile(prometheus.buckets(family, pool=pool),
                                         latency[quantile] / 1000, math.ceil(part * count - 1e-6))

    def assert_quantile(self, buckets, seconds, rank):
        """seconds is the value of this rank, or up to 3.2 % and a microsecond or two above it."""
        for bound, count in buckets:
            if bound >= seconds + 2e-6:
                self.assertGreaterEqual(count, rank, (bound, seconds, buckets))
            elif bound < seconds / 1.033 - 3e-6:
                self.assertLess(count, rank, (bound, seconds, buckets))

    def test_every_number_is_that_of_stats(self):
        """With jobs in every state, a reader of events and a request that waits."""
        running = self.run_all_kinds()
        with self.service.raw() as waiting, EventStream(self.service, running[0]):
            waiting.send(f"GET /jobs/{running[0]}?wait=60 HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            wait_until(lambda: (server := self.http.stats()["server"])["streams_open"] == 1
                       and server["requests_waiting"] == 1, "both are there")
            before, metrics, after = self.look()
            self.assert_same(before, metrics, after)
            self.assert_histograms(before, metrics)
            self.assertEqual(metrics["twinpool_event_readers"].value(), 1)
            self.cancel_all(running)
            waiting.read_answer()
        self.assert_witnessed(metrics)

    def assert_witnessed(self, metrics):
        """The numbers that the test itself has made, lest both be wrong in the same way."""
        def ended(pool):
            return {labels["state"]: count for labels in
                    metrics["twinpool_jobs_ended_total"].label_sets() if labels["pool"] == pool
                    and (count := metrics["twinpool_jobs_ended_total"].value(**labels))}
        self.assertEqual(ended("process"),
                         {"succeeded": 20, "crashed": 1, "expired": 1, "cancelled": 1})
        self.assertEqual(ended("thread"), {"succeeded": 20, "failed": 1, "timed_out": 1})
        self.assertEqual(ended("idle_a-b"), {})
        for family, labels, expected in (
                ("twinpool_job_retries_total", {"pool": "thread"}, 2),
                ("twinpool_jobs_rejected_total", {"pool": "process"}, 1),
                ("twinpool_jobs_scheduled", {"pool": "process"}, 1),
                ("twinpool_queue_length", {"pool": "process"}, 1),
                ("twinpool_queue_limit_jobs", {"pool": "process"}, 3),
                ("twinpool_host_restarts_total", {"pool": "process", "reason": "signal"}, 1),
                ("twinpool_jobs_unsuccessful_total", {"pool": "process", "cause": "queue_ttl"}, 1),
                ("twinpool_workers", {"pool": "process", "state": "busy"}, 2),
                ("twinpool_workers", {"pool": "thread", "state": "idle"}, 4)):
            self.assertEqual(metrics[family].value(**labels), expected, (family, labels))

    def test_answers_by_route_add_up_to_those_by_class(self):
        """Each answer counts once, under the route that it took."""
        self.http.run("echo", 1)
        self.http.request("HEAD", "/healthz")
        self.http.post("/jobs", b"{")
        self.http.get("/nothing")
        self.http.request("PUT", "/jobs")
        family = self.metrics()["twinpool_http_responses_total"]
        for method, route, code, expected in (
                ("POST", "/jobs", "2xx", 1), ("POST", "/jobs", "4xx", 1),
                ("GET", "/healthz", "2xx", 1), ("other", "other", "4xx", 2)):
            self.assertEqual(family.value(method=method, route=route, code=code), expected,
                             (method, route, code))
        responses = self.http.stats()["server"]["responses"]
        for code, count in responses.items():
            seen = sum(family.value(**labels) for labels in family.label_sets()
                       if labels["code"] == code)
            self.assertEqual(count, seen + (code == "2xx"))  # /metrics itself

    def test_what_stats_does_not_have(self):
        """Readiness, limits, and what /proc says of the server process."""
        metrics, pid = self.metrics(), self.service.server_pid
        limits = self.http.pool("process")
        self.assertEqual(metrics["twinpool_ready"].value(), 1)
        self.assertEqual(metrics["twinpool_build_info"].value(version=self.http.stats()["version"]),
                         1)
        self.assertEqual(metrics["twinpool_queue_limit_bytes"].value(pool="process"),
                         limits["queue_bytes"])
        self.assertEqual(metrics["process_threads"].value(), len(proc.threads(pid)))
        self.assertAlmostEqual(metrics["process_open_fds"].value(), len(proc.descriptors(pid)),
                               delta=2)  # connections come and go
        with open(f"/proc/{pid}/limits", encoding="ascii") as file:
            line = next(line for line in file if line.startswith("Max open files"))
        self.assertEqual(metrics["process_max_fds"].value(), float(line.split()[3]))
        self.assertGreater(metrics["process_virtual_memory_bytes"].value(),
                           metrics["process_resident_memory_bytes"].value())


class WatchersTest(MetricsCase):
    """What config/ has for Grafana and Prometheus asks for metrics that there are."""

    def test_each_metric_of_the_dashboard_and_the_alerts_exists(self):
        """With the labels and the values that are asked for."""
        metrics = self.metrics()
        with open(os.path.join(SOURCE, "config/grafana-dashboard.json"), encoding="utf-8") as file:
            dashboard = json.load(file)
        queries = [target["expr"] for panel in dashboard["panels"]
                   for target in panel.get("targets", ())]
        queries += [entry["expr"] for entry in dashboard["annotations"]["list"]]
        queries += [variable["definition"] for variable in dashboard["templating"]["list"]
                    if variable["type"] == "query"]
        with open(os.path.join(SOURCE, "config/alerts.yml"), encoding="utf-8") as file:
            alerts = file.read()
        self.assertGreater(sum(prometheus.check_query(query, metrics) for query in queries), 20)
        self.assertGreater(prometheus.check_query(alerts, metrics), 10)
        asked = " ".join((*queries, alerts))
        with self.assertRaises(AssertionError):
            prometheus.check_query(asked.replace("twinpool_ready", "twinpool_readi"), metrics)

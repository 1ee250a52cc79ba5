"""The queue: priorities that age, reserved workers, caps on what runs at once, and where a job stands."""

import random

from tests.harness.case import ServiceCase
from tests.harness.documents import most_at_once
from tests.harness.timing import SCALE, wait_until

LONG_MS = 60000


class QueueCase(ServiceCase):
    """Helpers for tests of the order."""

    def start_all(self, pool, priorities, **fields):
        """A job of each priority, in this order; answers their ids."""
        return [self.http.start("echo", number, pool, priority=priority, **fields)["id"]
                for number, priority in enumerate(priorities)]

    def order_of(self, job_ids):
        """The indices of these jobs in the order in which they were started."""
        jobs = [self.wait_ended(job_id) for job_id in job_ids]
        for job in jobs:
            self.assert_succeeded(job)
        return sorted(range(len(jobs)), key=lambda index: jobs[index]["started_at"])

    def wait_queued_for(self, job_id, ms):
        """Waits until a queued job has been so for that long."""
        wait_until(lambda: self.http.job(job_id)["timing"]["queued_ms"] >= ms,
                   f"the job has waited {ms} ms")


class PriorityTest(QueueCase):
    """One worker takes the most urgent job first."""

    config = {"pools": {"process": {"hosts": 1, "aging_ms": 3600000},
                        "thread": {"threads": 1, "aging_ms": 200}}}

    def test_higher_goes_first_and_equals_in_the_order_of_submission(self):
        """From 10 down to -10."""
        busy = self.fill_pool("process")
        priorities = [0, -10, 5, 10, 0, -1, 5, 10, -10, 1]
        jobs = self.start_all("process", priorities)
        self.cancel_all(busy)
        expected = sorted(range(len(priorities)), key=lambda index: -priorities[index])
        self.assertEqual(self.order_of(jobs), expected)
        for job_id, priority in zip(jobs, priorities):
            self.assertEqual(self.http.job(job_id)["priority"], priority)

    def test_a_batch_has_a_priority_too(self):
        """It overtakes what came before it."""
        busy = self.fill_pool("process")
        before = self.start_all("process", [0, 0])
        batch = self.http.submit_batch("echo", [1, 2], "process", wait=0, priority=3).json
        self.cancel_all(busy)
        self.assertEqual(self.http.get(f"/batches/{batch['id']}", wait=20).json["by_state"],
                         {"succeeded": 2})
        listed = self.http.get("/jobs", task="echo").json["jobs"]
        ids = before + [job["id"] for job in reversed(listed) if job["batch"] == batch["id"]]
        self.assertEqual(self.order_of(ids), [2, 3, 0, 1])

    def test_an_old_job_overtakes_a_new_one_of_higher_priority(self):
        """Each aging_ms in the queue counts as a step; one too few does not."""
        busy = self.fill_pool("thread")
        old = self.http.start("echo", "old", "thread")["id"]
        self.wait_queued_for(old, 500)
        little_more, much_more = self.start_all("thread", [2, 10])
        self.cancel_all(busy)
        self.assertEqual(self.order_of([old, little_more, much_more]), [2, 0, 1])

    def test_nothing_starves(self):
        """Under an endless stream of more urgent jobs the low one has its turn."""
        self.stop_service()
        self.start_service({"pools": {"process": {"hosts": 1, "aging_ms": 50}}})
        low = self.http.start("echo", "low", "process", priority=-10)["id"]
        jobs = [self.http.start("sleep", {"ms": 20}, "process", priority=10)["id"]
                for _ in range(10)]
        while self.http.job(low)["state"] != "succeeded":
            self.assertLess(len(jobs), 2000, "the low job starves")
            if self.http.stats()["pools"]["process"]["queue"]["length"] < 5:
                jobs += [self.http.start("sleep", {"ms": 20}, "process", priority=10)["id"]]
        self.cancel_all(jobs[-10:])


class PositionTest(QueueCase):
    """queue_position, and when a full queue says to come back."""

    config = {"pools": {"process": {"hosts": 1},
                        "short": {"hosts": 1, "threads": 1, "queue_jobs": 5},
                        "long": {"hosts": 1, "threads": 1, "queue_jobs": 300}}}

    def positions(self, job_ids):
        """The queue_position of each."""
        return [self.http.job(job_id)["queue_position"] for job_id in job_ids]

    def test_it_counts_what_goes_first(self):
        """From 1; it changes as others come and go; null once the job is not queued."""
        busy = self.fill_pool("process")
        jobs = self.start_all("process", [0, 0, 0])
        self.assertEqual(self.positions(jobs), [1, 2, 3])
        urgent = self.http.start("echo", 1, "process", priority=5)["id"]
        self.assertEqual(self.positions([urgent] + jobs), [1, 2, 3, 4])
        self.http.delete(f"/jobs/{jobs[0]}")
        self.assertEqual(self.positions([urgent, jobs[1], jobs[2]]), [1, 2, 3])
        self.assertEqual(self.positions(busy + [jobs[0]]), [None, None])
        self.assertEqual({job["queue_position"] for job in self.http.get("/jobs").json["jobs"]},
                         {None})
        self.cancel_all(busy)
        self.assertEqual(self.positions([self.wait_ended(jobs[2])["id"]]), [None])

    def retry_after(self, pool):
        """Fills a pool's queue until it is refused; answers what Retry-After says."""
        for _ in range(1000):
            answer = self.http.submit("echo", 1, pool, wait=0)
            if answer.status != 202:
                break
        self.assert_problem(answer, 503, pool)
        self.assertRegex(answer.headers["Retry-After"], r"\A[0-9]+\Z")
        return int(answer.headers["Retry-After"])

    def test_retry_after_grows_with_what_waits(self):
        """Both pools have ended as many jobs of late, so the longer queue takes longer."""
        for pool in ("short", "long"):
            for number in range(20):
                self.http.run("echo", number, pool)
        for pool in ("short", "long"):
            wait_until(lambda pool=pool: self.http.stats()["pools"][pool]["throughput"]["10s"],
                       "the jobs are in the rate")
        busy = self.fill_pool("short") + self.fill_pool("long")
        short, long = self.retry_after("short"), self.retry_after("long")
        self.assertGreaterEqual(short, 1)
        self.assertGreater(long, 3 * short)
        self.assertLessEqual(long, 600)
        self.cancel_all(busy)

    def test_a_pool_that_drains_nothing_says_so(self):
        """The longest time there is, when no job has ended or none will start."""
        busy = self.fill_pool("short")
        self.assertEqual(self.retry_after("short"), 600)
        self.cancel_all(busy)


class ReserveTest(ServiceCase):
    """Workers that are kept free for urgent jobs."""

    config = {"pools": {"process": {"hosts": 3, "reserve": {"workers": 1, "priority": 5}},
                        "thread": {"threads": 4, "reserve": {"workers": 2, "priority": 1}}}}

    def test_only_urgent_jobs_use_them(self):
        """The others wait though a worker is idle; an urgent one starts at once."""
        for pool, urgent, free in (("process", 5, 1), ("thread", 1, 2)):
            with self.subTest(pool=pool):
                jobs = [self.http.start("sleep", {"ms": LONG_MS}, pool, priority=urgent - 1)["id"]
                        for _ in range(6)]
                workers = self.http.pool(pool)["workers"]
                for job_id in jobs[:workers - free]:
                    self.wait_for_state(job_id, "running")
                entry = self.http.pool(pool)
                self.assertEqual((entry["workers_busy"], entry["workers_idle"],
                                  entry["queue_length"], entry["reserved"]),
                                 (workers - free, free, 6 - workers + free,
                                  {"workers": free, "priority": urgent}))
                self.assert_succeeded(self.http.run("echo", 1, pool, priority=urgent))
                self.assert_succeeded(self.http.run("echo", 1, pool, priority=10))
                self.assertEqual(self.http.pool(pool)["queue_length"], 6 - workers + free)
                self.cancel_all(jobs)

    def test_they_serve_when_others_end(self):
        """Low jobs that waited get their turn; none is stuck."""
        for pool in ("process", "thread"):
            jobs = [self.http.start("sleep", {"ms": 30}, pool)["id"] for _ in range(12)]
            ended = [self.wait_ended(job_id) for job_id in jobs]
            for job in ended:
                self.assert_succeeded(job)
            self.assertEqual(most_at_once(ended), 2)


class CapTest(ServiceCase):
    """At most so many of a kind run at once."""

    config = {"pools": {"process": {"hosts": 3, "label_limits": {"tenant": 1, "kind": 2}},
                        "thread": {"threads": 4, "label_limits": {"tenant": 1, "kind": 2}}},
              "tasks": {"sleep": {"max_running": 2}}}

    def wait_all(self, job_ids, deadline=30):
        """The documents of all these jobs, ended; a job that is stuck fails the test."""
        return [self.wait_ended(job_id, deadline * SCALE) for job_id in job_ids]

    def test_a_tasks_cap_holds_over_all_pools(self):
        """Never more than two at once, and two as long as there are two."""
        ids = [self.http.start("sleep", {"ms": 50}, pool)["id"]
               for _ in range(8) for pool in ("process", "thread")]
        busiest = 0
        while self.http.stats()["jobs"]["live"]:
            stats = self.http.stats()["pools"]
            busiest = max(busiest, sum(pool["workers"]["busy"] for pool in stats.values()))
        jobs = self.wait_all(ids)
        for job in jobs:
            self.assert_succeeded(job)
        self.assertEqual((most_at_once(jobs), busiest), (2, 2))

    def test_others_overtake_those_that_must_wait(self):
        """A capped task does not hold up the queue."""
        sleepers = [self.http.start("sleep", {"ms": LONG_MS}, "process")["id"] for _ in range(6)]
        for job_id in sleepers[:2]:
            self.wait_for_state(job_id, "running")
        for number in range(5):
            self.assert_succeeded(self.http.run("echo", number, "process"))
        self.assertEqual([self.http.job(job_id)["state"] for job_id in sleepers],
                         ["running"] * 2 + ["queued"] * 4)
        self.cancel_all(sleepers[:2])
        for job_id in sleepers[2:4]:
            self.wait_for_state(job_id, "running")
        self.cancel_all(sleepers)

    def test_a_labels_cap_is_for_each_of_its_values(self):
        """One job of each tenant at a time; jobs without the label are free."""
        ids = [self.http.start("spin", {"ms": 40}, "thread", labels={"tenant": tenant})["id"]
               for tenant in ("red", "blue") for _ in range(5)]
        free = [self.http.start("spin", {"ms": 40}, "thread", labels={"other": "red"})["id"]
                for _ in range(2)]
        jobs = self.wait_all(ids)
        self.assertEqual(most_at_once(jobs[:5]), 1)
        self.assertEqual(most_at_once(jobs[5:]), 1)
        self.assertEqual(most_at_once(jobs), 2)
        for job in jobs + self.wait_all(free):
            self.assert_succeeded(job)
        self.assertEqual(self.http.pool("thread")["label_limits"], {"tenant": 1, "kind": 2})

    def test_who_is_parked_can_be_cancelled_and_expires(self):
        """The queue's account is right afterwards, and the next in line goes on."""
        running = self.http.start("spin", {"ms": LONG_MS}, "process", labels={"tenant": "x"})["id"]
        self.wait_for_state(running, "running")
        parked = [self.http.start("echo", number, "process", labels={"tenant": "x"})["id"]
                  for number in range(3)]
        short = self.http.run("echo", 1, "process", labels={"tenant": "x"}, queue_ttl_ms=50)
        self.assert_error(short, "expired", "queue_ttl")
        answer = self.http.delete(f"/jobs/{parked[0]}")
        self.assert_status(answer, 200)
        self.assertEqual(self.http.pool("process")["queue_length"], 2)
        self.cancel_all([running])
        for job in self.wait_all(parked[1:]):
            self.assert_succeeded(job)

    def test_a_retried_job_counts_once(self):
        """Between two attempts it leaves its place to others."""
        failing = self.http.start("sha256", {}, "process", labels={"tenant": "x"}, max_attempts=2,
                                  retry={"backoff_ms": 3600000, "backoff_max_ms": 3600000})["id"]
        self.wait_for_state(failing, "scheduled")
        self.assert_succeeded(self.http.run("echo", 1, "process", labels={"tenant": "x"}))
        self.cancel_all([failing])

    def test_a_crash_gives_its_place_back(self):
        """On either pool the next of the same kind runs."""
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                ids = [self.http.start("crash", {"after_ms": 30}, pool,
                                       labels={"tenant": "x"})["id"] for _ in range(3)]
                jobs = self.wait_all(ids)
                self.assertEqual({job["state"] for job in jobs}, {"crashed"})
                self.assertEqual(most_at_once(jobs), 1)
                self.assert_succeeded(self.http.run("echo", 1, pool, labels={"tenant": "x"}))

    def test_nothing_is_left_stuck_after_a_wild_mix(self):
        """Tasks, tenants, kinds, priorities, cancels, short times in the queue, on both pools."""
        choose = random.Random(7)
        ids = []
        for _ in range(250):
            task, args = choose.choice((("sleep", {"ms": choose.randrange(8)}),
                                        ("spin", {"ms": choose.randrange(4)}), ("echo", 1)))
            labels = {name: choose.choice("ab") for name in ("tenant", "kind")
                      if choose.random() < 0.6}
            fields = {"queue_ttl_ms": choose.randrange(1, 60)} if choose.random() < 0.2 else {}
            ids.append(self.http.start(task, args, choose.choice(("process", "thread")),
                                       labels=labels, priority=choose.randrange(-3, 4),
                                       **fields)["id"])
            if choose.random() < 0.3:
                self.http.delete(f"/jobs/{choose.choice(ids)}")
        jobs = self.wait_all(ids)
        self.assertLessEqual({job["state"] for job in jobs}, {"succeeded", "cancelled", "expired"})
        self.assertLessEqual(most_at_once([job for job in jobs if job["task"] == "sleep"]), 2)
        for name, limit in (("tenant", 1), ("kind", 2)):
            for value in "ab":
                for pool in ("process", "thread"):
                    alike = [job for job in jobs if job["pool"] == pool
                             and (job["labels"] or {}).get(name) == value]
                    self.assertLessEqual(most_at_once(alike), limit, (pool, name, value))
        for entry in self.http.get("/pools").json["pools"]:
            self.assertEqual((entry["queue_length"], entry["workers_busy"]), (0, 0))
        for pool in ("process", "thread"):
            for value in "ab":
                self.assert_succeeded(self.http.run("sleep", {"ms": 1}, pool,
                                                    labels={"tenant": value, "kind": value}))

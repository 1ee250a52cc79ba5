"""GET /jobs: newest first, filtered, page by page."""

from tests.harness.case import ServiceCase

COUNT = 250


class ListTest(ServiceCase):
    """The list of jobs."""

    def list_all(self, **query):
        """Follows the cursor to the end; answers the jobs and the sizes of the pages."""
        jobs, sizes = [], []
        while True:
            answer = self.http.get("/jobs", **query)
            self.assert_status(answer, 200)
            page = answer.json
            self.assertEqual(set(page), {"jobs", "next_cursor", "complete"})
            self.assertIs(page["complete"], True)
            jobs += page["jobs"]
            sizes.append(len(page["jobs"]))
            if page["next_cursor"] is None:
                return jobs, sizes
            query["cursor"] = page["next_cursor"]
            self.assertLess(len(sizes), 2 * COUNT, "the cursor never ends")

    def test_pages_hold_every_job_once_newest_first(self):
        """250 jobs over pages of 100: none twice, none missing, in the order of submission."""
        ids = [self.http.start("echo", n)["id"] for n in range(COUNT)]
        jobs, sizes = self.list_all()
        self.assertEqual([job["id"] for job in jobs], ids[::-1])
        self.assertEqual([size for size in sizes if size], [100, 100, 50])

    def test_a_page_is_as_long_as_its_limit(self):
        """limit=7 gives pages of 7."""
        ids = [self.http.start("echo", n)["id"] for n in range(20)]
        jobs, sizes = self.list_all(limit=7)
        self.assertEqual([job["id"] for job in jobs], ids[::-1])
        self.assertEqual([size for size in sizes if size], [7, 7, 6])

    def test_jobs_that_come_meanwhile_do_not_disturb_the_paging(self):
        """A cursor points to older jobs, so new ones neither shift nor repeat what follows."""
        ids = [self.http.start("echo", n)["id"] for n in range(10)]
        first = self.http.get("/jobs", limit=5).json
        self.http.start("echo", "new")
        second, _ = self.list_all(limit=5, cursor=first["next_cursor"])
        self.assertEqual([job["id"] for job in first["jobs"] + second], ids[::-1])

    def test_filters_choose_by_state_pool_and_task(self):
        """Each filter alone and all together."""
        failed = self.http.run("sha256", {}, "thread")["id"]
        echoed = [self.http.run("echo", n, "thread")["id"] for n in range(3)]
        printed = self.http.run("print", {}, "process")["id"]
        running = self.http.start("sleep", {"ms": 20000}, "process")["id"]
        self.wait_for_state(running, "running")
        cases = (
            ({"state": "failed"}, [failed]),
            ({"state": "running"}, [running]),
            ({"state": "queued"}, []),
            ({"pool": "process"}, [running, printed]),
            ({"task": "echo"}, echoed[::-1]),
            ({"task": "echo", "pool": "process"}, []),
            ({"task": "sha256", "pool": "thread", "state": "failed"}, [failed]),
        )
        for query, expected in cases:
            with self.subTest(query=query):
                jobs, _ = self.list_all(**query)
                self.assertEqual([job["id"] for job in jobs], expected)
        self.cancel_all([running])

    def test_a_listed_job_is_the_whole_document(self):
        """The list shows each job as GET /jobs/{id} does."""
        job = self.http.run("echo", {"a": [1, None, "ä"]})
        self.assertEqual(self.http.get("/jobs").json["jobs"], [job])
        self.assertEqual(self.http.job(job["id"]), job)

    def test_wrong_queries_are_refused_and_name_what_exists(self):
        """An unknown state, pool, task or parameter, a bad limit or cursor: 422 about it."""
        cases = (
            ({"state": "done"}, "?state", ("queued", "succeeded", "crashed")),
            ({"pool": "gpu"}, "?pool", ("process", "thread")),
            ({"task": "prims"}, "?task", ("primes", "echo")),
            ({"limit": "0"}, "?limit", ("1000",)),
            ({"limit": "1001"}, "?limit", ("1000",)),
            ({"limit": "x"}, "?limit", ("1000",)),
            ({"cursor": "x"}, "?cursor", ()),
            ({"color": "red"}, "?color", ()),
        )
        for query, field, fragments in cases:
            with self.subTest(query=query):
                self.assert_problem(self.http.get("/jobs", **query), 422, *fragments, field=field)

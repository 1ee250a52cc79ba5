"""What a job writes comes back in the job: all of a little, head and tail of a lot."""

from tests.harness.case import ServiceCase

KEPT = 1000


class OutputTest(ServiceCase):
    """stdout and stderr of jobs, capped by the pool's output_bytes."""

    config = {"pools": {"process": {"output_bytes": KEPT}, "thread": {"output_bytes": KEPT}}}

    def print_lines(self, pool, text, times):
        """Runs print and answers the job's stdout."""
        job = self.http.run("print", {"text": text, "times": times}, pool)
        self.assert_succeeded(job)
        self.assertEqual(job["stderr"], {"text": "", "total_bytes": 0, "truncated": False})
        return job["stdout"]

    def test_output_within_the_limit_is_whole(self):
        """Up to output_bytes nothing is missing."""
        for pool in ("process", "thread"):
            for times in (1, 10, 100):
                with self.subTest(pool=pool, times=times):
                    self.assertEqual(self.print_lines(pool, "123456789", times),
                                     {"text": "123456789\n" * times, "total_bytes": 10 * times,
                                      "truncated": False})

    def test_output_beyond_the_limit_keeps_head_and_tail(self):
        """The first half and the last half of output_bytes stay, and the total is told."""
        whole = "abcdefghijk\n" * 500
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                stdout = self.print_lines(pool, "abcdefghijk", 500)
                self.assertEqual(stdout, {"text": whole[:KEPT // 2], "tail": whole[-KEPT // 2:],
                                          "total_bytes": len(whole), "truncated": True})

    def test_one_write_beyond_every_buffer(self):
        """A single write of a megabyte is counted exactly."""
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                stdout = self.print_lines(pool, "x" * 999999, 1)
                self.assertEqual((stdout["total_bytes"], stdout["truncated"]), (1000000, True))
                self.assertEqual(stdout["tail"], "x" * (KEPT // 2 - 1) + "\n")

    def test_output_of_jobs_side_by_side_is_not_mixed(self):
        """Each job has its own lines, also among the threads of one process."""
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                args = [{"text": f"job-{n:03}", "times": 20} for n in range(60)]
                batch = self.http.submit_batch("print", args, pool).json
                for entry, arg in zip(batch["results"], args, strict=True):
                    job = self.http.job(entry["job"])
                    self.assertEqual(job["stdout"]["text"], (arg["text"] + "\n") * 20)

    def test_output_of_a_cancelled_job_is_kept(self):
        """What a crashing job wrote before it died is there: see also tests/fault."""
        job = self.http.run("crash", {"text": "last words", "signal": "KILL"}, "process")
        self.assertEqual((job["state"], job["stdout"]["text"]), ("crashed", "last words"))

    def test_a_result_beyond_the_limit_is_no_success(self):
        """A result larger than result_bytes ends the job with the limit and what was seen."""
        self.stop_service()
        self.start_service({"pools": {"process": {"result_bytes": 100},
                                      "thread": {"result_bytes": 100}}})
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                self.assert_succeeded(self.http.run("echo", "y" * 98, pool))
                job = self.http.run("echo", "y" * 99, pool)
                self.assertEqual((job["state"], job["error"]["code"]), ("failed", "output_limit"))
                self.assertEqual((job["error"]["limit_bytes"], job["error"]["seen_bytes"]),
                                 (100, 101))
                self.assertIsNone(job["result"])

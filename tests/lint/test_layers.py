"""That layers.py sees what it is there to see."""

import os
import tempfile
import unittest

import layers


class LayersTest(unittest.TestCase):
    """Each test judges one small file."""

    def judge(self, path, text):
        """The breaks of a tree that has this file only."""
        with tempfile.TemporaryDirectory() as source:
            full = os.path.join(source, path)
            os.makedirs(os.path.dirname(full))
            with open(full, "w", encoding="utf-8") as file:
                file.write(text)
            return list(layers.breaks(source))

    def assert_broken(self, path, text, line=1):
        """One break, told with its line."""
        found = self.judge(path, text)
        self.assertEqual(len(found), 1, found)
        self.assertTrue(found[0].startswith(f"{path}:{line}: "), found)

    def assert_good(self, path, text):
        """No break."""
        self.assertEqual(self.judge(path, text), [])

    def test_upwards_is_allowed(self):
        """A later directory uses itself and earlier ones, and the public header."""
        self.assert_good("src/server/a.c", '#include "server/b.h"\n#include "base/log.h"\n'
                                           '#include "ipc/x.h"\n#include <twinpool/task.h>\n')

    def test_downwards_is_not(self):
        """An earlier directory does not know a later one."""
        self.assert_broken("src/base/a.h", '\n#include "job/job.h"\n', line=2)
        self.assert_broken("src/server/a.c", '#include "http/http.h"\n')

    def test_host_and_server_do_not_meet(self):
        """Neither knows the other, though their order would let one."""
        self.assert_broken("src/server/a.c", '#include "host/host.h"\n')
        self.assert_broken("src/http/a.c", '#include "host/host.h"\n')
        self.assert_broken("src/host/a.c", '#include "server/server.h"\n')
        self.assert_good("src/master/a.c", '#include "host/host.h"\n#include "server/server.h"\n')

    def test_main_is_small(self):
        """It knows the master and what arguments need."""
        self.assert_good("src/main.c", '#include "master/master.h"\n#include "host/heap.h"\n')
        self.assert_broken("src/main.c", '#include "server/server.h"\n')

    def test_unknown_directories_are_told(self):
        """A directory without a place in the order is a break."""
        self.assert_broken("src/new/a.c", '#include "base/log.h"\n')
        self.assert_broken("src/base/a.c", '#include "log.h"\n')

    def test_libraries_have_one_home(self):
        """Each library is used by one directory."""
        self.assert_good("src/http/a.c", "#include <microhttpd.h>\n")
        self.assert_broken("src/server/a.c", "#include <microhttpd.h>\n")
        self.assert_broken("src/task/a.c", "#include <nettle/sha2.h>\n")
        self.assert_broken("src/base/a.c", "#include <jemalloc/jemalloc.h>\n")

    def test_calls_have_one_home(self):
        """fork in the master, threads in the hosts."""
        self.assert_good("src/master/a.c", "int f(void) { return fork(); }\n")
        self.assert_broken("src/host/a.c", "int f(void)\n{ return fork(); }\n", line=2)
        self.assert_broken("src/master/a.c", "void f(void) { pthread_create (0, 0, 0, 0); }\n")

    def test_banned_functions(self):
        """Called, not merely named: in a comment, a string, a member, a longer name."""
        self.assert_broken("src/base/a.c", "/* one\n two */ int f(void) { return atoi(x); }\n", line=2)
        self.assert_broken("tests/unit/a.c", "void f(void) { strcpy (a, b); }\n")
        self.assert_good("src/base/a.c", '/* atoi(x) */ const char *s = "system(1)"; // gets(x)\n'
                                         "int f(void) { return p->signal(1) + q.signal(2)"
                                         " + my_atoi(3) + signal_name; }\n")
        self.assert_good("src/base/a.c", "char c = '\"'; /* \" atoi(1) */ char d = '\"';\n")


if __name__ == "__main__":
    unittest.main()

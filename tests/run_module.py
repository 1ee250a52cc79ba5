"""Runs one file of tests: run_module.py tests/api/test_jobs.py [arguments of unittest].

Does not depend on the working directory and writes nothing into the source tree.
"""

import os
import sys
import unittest

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def main():
    """Turns the file's path into its module's name and hands over to unittest."""
    path = os.path.relpath(os.path.abspath(sys.argv[1]), SOURCE)
    module = path.removesuffix(".py").replace(os.sep, ".")
    sys.dont_write_bytecode = True
    sys.path.insert(0, SOURCE)
    unittest.main(module=None, argv=[sys.argv[0], "-v", module, *sys.argv[2:]])


if __name__ == "__main__":
    main()

"""The walls between the directories of src, and the functions that nobody may call.

layers.py [SOURCE] prints one line for each break, and fails if there is one.
"""

import os
import re
import sys

# A directory includes only itself and those before it.
LAYERS = ("twinpool", "base", "config", "job", "ipc", "task", "host", "store", "server", "compare", "http",
          "master")
# The exceptions: the server side and the hosts meet in the master alone.
FORBIDDEN = {("store", "host"), ("server", "host"), ("compare", "host"), ("http", "host")}
GENERATED = {"version.h"}
MAIN_INCLUDES = {"base/", "config/", "task/", "master/", "host/heap.h", "version.h"}

# A pattern of system headers, and the only directories that may include them.
SYSTEM_HEADERS = (
    (r"microhttpd\.h", ("src/http/",)),
    (r"nettle/.*", ("src/base/digest.c", "src/config/tokens.c", "src/task/builtin/", "src/task/command/")),
    (r"gnutls/.*", ("src/http/",)),
    (r"Python\.h", ("src/task/python/",)),
    (r"jemalloc/.*", ("src/host/",)),
    (r"curl/.*", ("src/server/sender.c", "src/server/callbacks.c")),
    (r"sqlite3\.h", ("src/store/sqlite", "bench/")),
    (r"libpq-fe\.h", ("src/store/postgresql", "tests/unit/test_store_postgresql.c")),
)
# A pattern of functions, and the only directories that may call them.
CALLS = (
    (r"v?fork|posix_spawnp?|clone3?", ("src/master/", "src/task/builtin/spawn.c", "src/task/command/spawn.c")),
    (r"\w*mallctl\w*|mallocx|dallocx", ("src/host/",)),
    (r"pthread_create|thrd_create", ("src/compare/gauge.c", "src/host/", "src/server/sender.c", "src/store/store.c",
                                     "src/store/postgresql_heart.c", "src/task/python/")),
    (r"MHD_\w+", ("src/http/",)),
    (r"nettle_\w+", ("src/base/digest.c", "src/task/builtin/", "src/task/command/")),
    (r"gnutls_\w+", ("src/http/tls.c",)),
    (r"Py[A-Z]\w+", ("src/task/python/",)),
    (r"sqlite3_\w+", ("src/store/sqlite", "bench/")),
    (r"PQ[a-z]\w+", ("src/store/postgresql",)),
)
TESTS_MAY = ("tests/", "bench/")
BANNED = r"strcpy|strcat|v?sprintf|strtok|atoi|atol|atof|gets|signal|system|popen|v?alloca"

COMMENT_OR_TEXT = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.DOTALL)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)


def blank(text, keep_strings):
    """text without its comments, and strings if so wished; lines stay where they are."""
    def replace(match):
        piece = match.group()
        if piece[0] in "\"'":
            return piece if keep_strings else '""'
        return " " + "\n" * piece.count("\n")
    return COMMENT_OR_TEXT.sub(replace, text)


def line_of(text, position):
    """The number of the line that a position lies on."""
    return text.count("\n", 0, position) + 1


def calls_of(pattern, text):
    """Positions and names of the calls, in text without comments; members of a struct are none."""
    for match in re.finditer(rf"(?<![\w.])(?<!->)({pattern})\s*\(", text):
        yield match.start(), match.group(1)


def included_layer(name):
    """The directory that a quoted include names."""
    return name.split("/")[0] if "/" in name else ""


def judge_own_include(path, name):
    """What is wrong when the file at path includes "name"; None if nothing is."""
    if not path.startswith(("src/", "include/")) or name in GENERATED:
        return None
    if path == "src/main.c":
        allowed = any(name == entry or entry.endswith("/") and name.startswith(entry)
                      for entry in MAIN_INCLUDES)
        return None if allowed else f"main.c includes {name}; it may use {sorted(MAIN_INCLUDES)}"
    own = path.split("/")[1]
    other = included_layer(name)
    if own not in LAYERS:
        return f"{own} is no layer; add it to LAYERS in tests/lint/layers.py, where it belongs"
    if other not in LAYERS:
        return f"{name} begins with no layer; there are {', '.join(LAYERS)}"
    if LAYERS.index(other) > LAYERS.index(own) or (own, other) in FORBIDDEN:
        return f"{own} includes {name}; {own} may not know {other}"
    return None


def breaks_of_includes(path, text):
    """Yields (line, message) for each include that breaks a wall."""
    code = blank(text, keep_strings=True)
    for match in INCLUDE.finditer(code):
        message = None
        if match.group(1):
            message = judge_own_include(path, match.group(1))
        for pattern, homes in SYSTEM_HEADERS:
            name = match.group(1) or match.group(2)
            if re.fullmatch(pattern, name) and not path.startswith(homes + TESTS_MAY):
                message = f"{match.group(2)} belongs to {', '.join(homes)}"
        if message:
            yield line_of(code, match.start()), message


def breaks_of_calls(path, text):
    """Yields (line, message) for each call that is banned, or made in the wrong place."""
    code = blank(text, keep_strings=False)
    for position, name in calls_of(BANNED, code):
        yield line_of(code, position), f"{name} is banned"
    for pattern, homes in CALLS:
        if path.startswith(homes + TESTS_MAY):
            continue
        for position, name in calls_of(pattern, code):
            yield line_of(code, position), f"{name} belongs to {', '.join(homes)}"


def sources(source):
    """Paths, relative to source, of all C files, in order."""
    for top in ("include", "src", "tests", "bench"):
        for directory, _, names in sorted(os.walk(os.path.join(source, top))):
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    yield os.path.relpath(os.path.join(directory, name), source)


def breaks(source):
    """Yields one line of text for each break in the tree at source."""
    for path in sources(source):
        with open(os.path.join(source, path), encoding="utf-8") as file:
            text = file.read()
        for judge in (breaks_of_includes, breaks_of_calls):
            for line, message in judge(path, text):
                yield f"{path}:{line}: {message}"


def main():
    """Exit status 1 if a wall is broken, or if there was nothing to look at."""
    default = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    source = sys.argv[1] if len(sys.argv) > 1 else default
    found = list(breaks(source))
    count = sum(1 for _ in sources(source))
    print("\n".join([*found, f"{count} files, {len(found)} breaks"]))
    return 1 if found or not count else 0


if __name__ == "__main__":
    sys.exit(main())

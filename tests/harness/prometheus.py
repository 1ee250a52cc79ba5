"""A strict reader of Prometheus' text format, version 0.0.4, and of the names in its queries."""

import math
import re
import shutil
import subprocess

HEADER = re.compile(r"# (HELP|TYPE) ([a-z][a-z0-9_]*) (.+)\Z")
SAMPLE = re.compile(r'([a-z][a-z0-9_]*)(?:\{(.*)\})? (\+Inf|NaN|[0-9]+(?:\.[0-9]+)?)\Z')
LABEL = re.compile(r'([a-z][a-z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(,|\Z)')
SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
# A metric of ours in a query, with the matchers behind it.
SELECTOR = re.compile(r"\b((?:twinpool|process)_[a-z0-9_]+)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'\s*([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"\s*(?:,|\Z)')


class Family:
    """The samples of one name, by (suffix, labels); labels are sorted pairs."""

    def __init__(self, name, kind, text):
        self.name = name
        self.kind = kind
        self.help = text
        self.samples = {}

    def value(self, suffix="", **labels):
        """One sample."""
        return self.samples[suffix, tuple(sorted(labels.items()))]

    def label_sets(self, suffix=""):
        """The labels of each sample with this suffix."""
        return [dict(labels) for own, labels in self.samples if own == suffix]


def parse(data):
    """Reads an exposition (bytes) into families by name; AssertionError if it breaks a rule."""
    text = data.decode("utf-8")
    require(text.endswith("\n"), "the last line ends", text[-40:])
    families, helps, current = {}, {}, None
    for line in text[:-1].split("\n"):
        header = HEADER.match(line)
        if not header:
            require(current, "samples follow a TYPE", line)
            add_sample(current, line)
            continue
        keyword, name, rest = header.groups()
        require(name not in families, "a family is in one piece", line)
        if keyword == "HELP":
            require(name not in helps, "one HELP a family", line)
            helps[name] = rest
            current = None
        else:
            require(name in helps and rest in SUFFIXES, "TYPE follows HELP and is known", line)
            current = families[name] = Family(name, rest, helps[name])
    for family in families.values():
        check_family(family)
    require(set(families) == set(helps), "each HELP has its TYPE", sorted(helps))
    return families


def add_sample(family, line):
    """One line: a name of the family, labels that are each there once, a number."""
    match = SAMPLE.match(line)
    require(match, "a sample", line)
    name, label_text, number = match.groups()
    suffix = name.removeprefix(family.name)
    require(name.startswith(family.name) and suffix in SUFFIXES[family.kind],
            f"a sample of {family.name}", line)
    key = suffix, tuple(sorted(read_labels(label_text, line).items()))
    require(key not in family.samples, "each sample once", line)
    family.samples[key] = float(number)


def read_labels(text, line):
    """Labels as a dict, unescaped."""
    labels, at = {}, 0
    while text and at < len(text):
        match = LABEL.match(text, at)
        require(match and match.group(1) not in labels, "labels", line)
        labels[match.group(1)] = re.sub(r"\\(.)", lambda escape: escape.group(1).replace("n", "\n"),
                                        match.group(2))
        require(bool(match.group(3)) == (match.end() < len(text)), "no comma at the end", line)
        at = match.end()
    return labels


def check_family(family):
    """Names by the conventions, and buckets that add up."""
    require((family.kind == "counter") == family.name.endswith("_total"),
            "counters, and they alone, end in _total", family.name)
    require(family.samples and family.help.endswith("."), "help and samples", family.name)
    if family.kind == "histogram":
        for labels in family.label_sets("_count"):
            check_histogram(family, labels)
        require(len(family.label_sets("_count")) == len(family.label_sets("_sum")) > 0,
                "a sum and a count of each", family.name)


def check_histogram(family, labels):
    """Bounds rise to +Inf, and counts never fall on the way to the count."""
    pairs = buckets(family, **labels)
    require(pairs == sorted(pairs) and len({bound for bound, _ in pairs}) == len(pairs),
            "bounds rise", pairs)
    require([count for _, count in pairs] == sorted(count for _, count in pairs),
            "counts are cumulative", pairs)
    require(pairs[-1] == (math.inf, family.value("_count", **labels)),
            "the last bucket is +Inf, with the count", pairs)


def buckets(family, **labels):
    """(bound, cumulative count) of one histogram, in the order of the text."""
    found = []
    for (suffix, own), count in family.samples.items():
        own = dict(own)
        bound = own.pop("le", None)
        if suffix == "_bucket" and own == labels:
            found.append((float(bound), count))
    return found


def check_query(query, families):
    """Each of our metrics in a query exists, and so do the labels and values that it asks for."""
    selectors = SELECTOR.findall(query)
    for name, matchers in selectors:
        family, suffix = find_family(name, families)
        require(family, f"a metric {name}", query)
        for label, operator, value in MATCHER.findall(matchers):
            if label in ("job", "instance") or value.startswith("$"):
                continue
            seen = {labels.get(label) for labels in family.label_sets(suffix)}
            wanted = value.split("|") if operator in ("=~", "!~") else [value]
            require(set(wanted) <= seen, f"{name} with {label} of {wanted}", query)
    return len(selectors)


def find_family(name, families):
    """The family and the suffix of a sample's name."""
    for suffix in ("", "_bucket", "_sum", "_count"):
        family = families.get(name.removesuffix(suffix)) if name.endswith(suffix) else None
        if family and suffix in SUFFIXES[family.kind]:
            return family, suffix
    return None, ""


def require(condition, what, where):
    """AssertionError that names the rule and where it is broken."""
    if not condition:
        raise AssertionError(f"not so: {what}: {where!r}")


def has_promtool():
    """Whether Prometheus' own checker is installed."""
    return shutil.which("promtool") is not None


def promtool(*arguments, data=b"", directory=None):
    """Runs it; answers (exit status, everything it said)."""
    done = subprocess.run(["promtool", *arguments], input=data, cwd=directory, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    return done.returncode, done.stdout.decode()

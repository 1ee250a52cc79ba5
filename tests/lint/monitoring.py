"""config/grafana-dashboard.json can be imported as it is; config/alerts.yml is right and does what its tests say.

The queries of the dashboard are read as PromQL by promtool, with Grafana's variables filled in. Where promtool is not
installed that part is left out, and the exit status is 77, which ctest shows as skipped.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import yaml

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ALERTS = os.path.join(SOURCE, "config/alerts.yml")
TESTS = os.path.join(SOURCE, "tests/lint/alerts_test.yml")
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
SKIPPED = 77
# What Grafana fills in, by a value of the same kind.
GRAFANA = (("$__rate_interval", "5m"), ("$__range", "1h"))
VARIABLE = re.compile(r"\$(\w+)")


def read(path):
    """A file of the source tree, as text."""
    with open(os.path.join(SOURCE, path), encoding="utf-8") as file:
        return file.read()


def queries(dashboard):
    """Every PromQL query: those of the panels and of the annotations."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["expr"]


def fill_in(query):
    """The query with Grafana's own variables replaced."""
    for name, value in GRAFANA:
        query = query.replace(name, value)
    return query


def breaks_of_dashboard(dashboard):
    """Panels that overlap or share an id, another data source, a variable that is not declared."""
    declared = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    if declared["datasource"]["type"] != "datasource" or "id" in dashboard:
        yield "the data source is no variable, or the dashboard has an id of some installation"
    ids, cells = set(), set()
    for panel in dashboard["panels"]:
        title, place = panel["title"], panel["gridPos"]
        if panel["id"] in ids:
            yield f"{title}: its id stands twice"
        ids.add(panel["id"])
        own = {(x, y) for x in range(place["x"], place["x"] + place["w"])
               for y in range(place["y"], place["y"] + place["h"])}
        if own & cells or place["x"] + place["w"] > 24:
            yield f"{title}: lies over another panel or beyond the edge"
        cells |= own
        for node in [panel, *panel.get("targets", ())] if panel["type"] != "row" else ():
            if node["datasource"] != DATASOURCE:
                yield f"{title}: its data source is not the variable"
    for query in queries(dashboard):
        for name in set(VARIABLE.findall(fill_in(query))) - set(declared):
            yield f"${name} is not declared: {query}"


def breaks_of_alerts(rules, tests):
    """Alerts without what a person needs, or without a test in which they fire."""
    for rule in rules:
        name = rule["alert"]
        if not {"summary", "description"} <= set(rule["annotations"]):
            yield f"{name}: has no summary or no description"
        if rule["labels"]["severity"] not in ("warning", "critical"):
            yield f"{name}: its severity is unknown"
        if f'alertname="{name}"' not in tests:
            yield f"{name}: no test expects it to fire"


def breaks_of_promtool(dashboard):
    """What promtool complains of."""
    rules = [{"record": f"dashboard:query{number}", "expr": fill_in(query)}
             for number, query in enumerate(queries(dashboard))]
    with tempfile.NamedTemporaryFile("w", suffix=".yml", encoding="utf-8") as file:
        json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
        file.flush()
        for arguments in (("check", "rules", ALERTS, file.name), ("test", "rules", TESTS)):
            done = subprocess.run(["promtool", *arguments], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=120, check=False)
            if done.returncode != 0:
                yield done.stdout.decode()
    print(f"promtool has read {len(rules)} queries")


def main():
    """Exit status 1 if something is wrong, 77 if not all could be looked at."""
    dashboard = json.loads(read("config/grafana-dashboard.json"))
    rules = [rule for group in yaml.safe_load(read("config/alerts.yml"))["groups"]
             for rule in group["rules"]]
    found = [*breaks_of_dashboard(dashboard), *breaks_of_alerts(rules, read("tests/lint/alerts_test.yml"))]
    has_promtool = shutil.which("promtool") is not None
    if has_promtool:
        found += breaks_of_promtool(dashboard)
    panels = len(dashboard["panels"])
    print("\n".join([*found, f"{panels} panels, {len(rules)} alerts, {len(found)} breaks"]))
    if found or not panels or not rules:
        return 1
    if not has_promtool:
        print("promtool is not installed: queries and rules were not read by it")
        return SKIPPED
    return 0


if __name__ == "__main__":
    sys.exit(main())

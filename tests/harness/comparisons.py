"""Comparisons and experiments: submitting them, and what every document of one promises."""

import os

import jsonschema
import yaml

from tests.harness import proc
from tests.harness.case import ServiceCase
from tests.harness.service import SOURCE
from tests.harness.timing import wait_until

ENDED = ("succeeded", "failed", "cancelled")


class _Loader(yaml.SafeLoader):
    """Reads times as the texts that they are in JSON."""


_Loader.yaml_implicit_resolvers = {
    first: [entry for entry in resolvers if entry[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()}


def validator(schema):
    """Holds documents to a schema of openapi.yaml."""
    with open(os.path.join(SOURCE, "openapi.yaml"), encoding="utf-8") as file:
        document = yaml.load(file, _Loader)  # noqa: S506 - it is a safe one
    return jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{schema}"},
                                           resolver=jsonschema.RefResolver("", document))


class ComparisonCase(ServiceCase):
    """Small pools, and a validator that is made once."""

    config = {"pools": {"process": {"hosts": 2}, "thread": {"threads": 3}}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.comparison = validator("Comparison")

    def check(self, document):
        """Holds a comparison to its schema; answers it."""
        self.comparison.validate(document)
        return document

    def submit(self, **fields):
        """POST /comparisons, which is accepted; answers its document."""
        answer = self.http.post("/comparisons", fields)
        self.assert_status(answer, 202)
        self.assertEqual(answer.headers["Location"], f"/comparisons/{answer.json['id']}")
        return self.check(answer.json)

    def get(self, comparison_id, **query):
        """GET /comparisons/{id}."""
        answer = self.http.get(f"/comparisons/{comparison_id}", **query)
        self.assert_status(answer, 200)
        return self.check(answer.json)

    def run_to_end(self, path, body, state="succeeded"):
        """POST, and waits for its end; answers the document."""
        answer = self.http.post(path, body, wait=0)
        self.assertIn(answer.status, (200, 202), answer)
        document = self.get(answer.json["id"], wait=100)
        self.assertEqual(document["state"], state, document["error"])
        return document

    def wait_for(self, comparison_id, condition, what, deadline=30):
        """Waits until the document is as wished; answers it."""
        def look():
            document = self.get(comparison_id)
            if document["state"] in ENDED and not condition(document):
                raise AssertionError(f"it has ended without: {what}: {document['error']}")
            return document if condition(document) else None
        return wait_until(look, what, deadline)

    def wait_gone(self, pids):
        """Waits until none of these processes runs."""
        wait_until(lambda: not any(map(proc.is_running, pids)), f"{pids} have ended")

"""openapi.yaml agrees with itself and with the route table.

Every reference leads somewhere, every component is used, every example is as its schema says, path parameters are
those of the path, operation ids are unique, and the calls are exactly those that src/http/route.c knows.
"""

import os
import re
import sys

import jsonschema
import yaml

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
METHODS = ("get", "post", "put", "patch", "delete")
# HEAD and OPTIONS are answered for every path, which the description says once.
ROUTE = re.compile(r'\{METHOD_(GET|POST|PUT|PATCH|DELETE), "([^"]+)"')


class Loader(yaml.SafeLoader):
    """Reads times as the texts that they are in JSON, and refuses a key that stands twice."""

    def construct_mapping(self, node, deep=False):
        """A mapping whose keys differ."""
        keys = [self.construct_object(key) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"line {node.start_mark.line + 1}: {key} stands twice")
        return super().construct_mapping(node, deep)


Loader.yaml_implicit_resolvers = {
    first: [entry for entry in resolvers if entry[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()}


def walk(node, path="#"):
    """Yields (path, mapping) for every mapping below node."""
    if isinstance(node, dict):
        yield path, node
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, value in entries:
        yield from walk(value, f"{path}/{str(name).replace('~', '~0').replace('/', '~1')}")


def resolve(document, node):
    """What a reference leads to, or node itself if it is none; KeyError if it leads nowhere."""
    while isinstance(node, dict) and isinstance(node.get("$ref"), str):
        reference = node["$ref"]
        node = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step.replace("~1", "/").replace("~0", "~")]
    return node


def references(document):
    """Yields (path, reference) for each $ref."""
    for path, node in walk(document):
        if isinstance(node.get("$ref"), str):
            yield path, node["$ref"]


def breaks_of_references(document):
    """References that lead nowhere, and components that nothing leads to."""
    used = set()
    for path, reference in references(document):
        used.add(reference)
        try:
            resolve(document, {"$ref": reference})
        except (KeyError, TypeError):
            yield f"{path}: {reference} does not exist"
    used.update(f"#/components/securitySchemes/{name}" for entry in document["security"] for name in entry)
    for kind, components in document["components"].items():
        for name in components:
            if f"#/components/{kind}/{name}" not in used:
                yield f"#/components/{kind}/{name} is not used"


def operations(document):
    """Yields (path, method, operation, parameters); parameters are resolved."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                listed = item.get("parameters", []) + item[method].get("parameters", [])
                yield path, method, item[method], [resolve(document, entry) for entry in listed]


def breaks_of_operations(document):
    """Ids that stand twice, path parameters that do not fit, no answer, or an unknown tag."""
    ids = [operation.get("operationId") for _, _, operation, _ in operations(document)]
    tags = {tag["name"] for tag in document["tags"]}
    for path, method, operation, parameters in operations(document):
        where = f"{method.upper()} {path}"
        if not operation.get("operationId") or ids.count(operation["operationId"]) > 1:
            yield f"{where}: its operationId is missing or not unique"
        named = {entry["name"] for entry in parameters if entry["in"] == "path"}
        if named != set(re.findall(r"\{(\w+)\}", path)):
            yield f"{where}: describes the path parameters {sorted(named)}"
        if not operation.get("responses") or not operation.get("summary"):
            yield f"{where}: has no responses or no summary"
        if operation.get("security") != [] and not {"401", "403"} <= set(operation.get("responses", ())):
            yield f"{where}: has no 401 and 403, and does not say that it is open: security: []"
        if not set(operation.get("tags", ())) <= tags:
            yield f"{where}: has a tag that the document does not list"


def breaks_of_routes(document, routes):
    """Calls that only the document knows, or only the program."""
    described = {(method.upper(), re.sub(r"\{\w+\}", "{}", path))
                 for path, method, _, _ in operations(document)}
    routed = {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path in ROUTE.findall(routes)}
    for method, path in sorted(described - routed):
        yield f"{method} {path} is described, and src/http/route.c does not know it"
    for method, path in sorted(routed - described):
        yield f"{method} {path} is in src/http/route.c, and not described"


def examples(document):
    """Yields (path, schema, value) for each example that has a schema beside it."""
    for path, node in walk(document):
        if path.endswith(("/examples", "/properties")):
            continue
        schema = node.get("schema", node if "type" in node else None)
        if not isinstance(schema, dict):
            continue
        if "example" in node:
            yield path, schema, node["example"]
        many = node.get("examples")
        if isinstance(many, dict):
            for name, entry in many.items():
                yield f"{path}/examples/{name}", schema, resolve(document, entry)["value"]
        elif isinstance(many, list):
            for entry in many:
                yield path, schema, entry


def breaks_of_examples(document):
    """Schemas that are none, and examples that are not as their schema says."""
    resolver = jsonschema.RefResolver("", document)
    for name, schema in document["components"]["schemas"].items():
        try:
            jsonschema.Draft202012Validator.check_schema(schema)
        except jsonschema.SchemaError as wrong:
            yield f"#/components/schemas/{name}: {wrong.message}"
    for path, schema, value in examples(document):
        for wrong in jsonschema.Draft202012Validator(schema, resolver=resolver).iter_errors(value):
            yield f"{path}: {wrong.json_path}: {wrong.message}"


def main():
    """Exit status 1 if something does not agree."""
    with open(os.path.join(SOURCE, "openapi.yaml"), encoding="utf-8") as file:
        document = yaml.load(file, Loader)  # noqa: S506 - Loader is a safe one
    with open(os.path.join(SOURCE, "src/http/route.c"), encoding="utf-8") as file:
        routes = file.read()
    found = list(breaks_of_references(document))
    if not found:
        found += [*breaks_of_operations(document), *breaks_of_routes(document, routes),
                  *breaks_of_examples(document)]
    calls = sum(1 for _ in operations(document))
    count = sum(1 for _ in examples(document))
    print("\n".join([*found, f"{calls} calls, {count} examples, {len(found)} breaks"]))
    return 1 if found or not calls or not count else 0


if __name__ == "__main__":
    sys.exit(main())

"""The same service as WSGI has it: the server's workers are the pool."""

import json

TASKS = {"echo": lambda args: args}


def application(environ, start_response):
    """One call: POST /jobs."""
    document = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    result = TASKS[document["task"]](document.get("args"))
    body = json.dumps({"task": document["task"], "state": "succeeded", "result": result}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]

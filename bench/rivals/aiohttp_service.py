"""What one would write in Python: aiohttp on uvloop before a pool of concurrent.futures, or before Celery.

aiohttp_service.py PORT thread|process SIZE
aiohttp_service.py PORT celery THREADS      (CELERY_URL names the broker; so many can wait at once)
"""

import asyncio
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import uvloop
from aiohttp import web

TASKS = {"echo": lambda args: args}


def run(task, args):
    """In the pool."""
    return TASKS[task](args)


def run_by_celery(task, args):
    """In a thread that waits for Celery."""
    import celery_tasks  # pylint: disable=import-outside-toplevel

    return celery_tasks.app.tasks[f"celery_tasks.{task}"].delay(args).get(timeout=20)


def make_application(kind, size):
    """One call: POST /jobs."""
    executor = ProcessPoolExecutor(size) if kind == "process" else ThreadPoolExecutor(size)
    function = run_by_celery if kind == "celery" else run

    async def submit(request):
        document = await request.json()
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(executor, function, document["task"], document.get("args"))
        return web.json_response({"task": document["task"], "state": "succeeded", "result": result})

    application = web.Application()
    application.router.add_post("/jobs", submit)
    return application


if __name__ == "__main__":
    uvloop.install()
    web.run_app(make_application(sys.argv[2], int(sys.argv[3])), host="127.0.0.1", port=int(sys.argv[1]),
                access_log=None, print=None)

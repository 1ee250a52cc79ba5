"""The same task for Celery; CELERY_URL names broker and results."""

import os

from celery import Celery

app = Celery("celery_tasks", broker=os.environ["CELERY_URL"], backend=os.environ["CELERY_URL"])


@app.task
def echo(args):
    """Gives its arguments back."""
    return args

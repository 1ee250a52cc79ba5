"""Starting what twinpool is compared with. Each function answers a port, or raises Missing."""

import os
import shutil
import subprocess

from bench.harness import process
from bench.harness.bench import Missing
from bench.harness.process import environment, free_port, wait_until_listening

RIVALS = os.path.join(process.SOURCE, "bench", "rivals")
WSGI = "wsgi_service:application"
PYTHON = "/usr/bin/python3"  # Debian's, which has Debian's modules
CELERY_THREADS = 64  # as many as wait at once


def need_programs(*names):
    """Their paths."""
    found = [shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin") for name in names]
    missing = [name for name, path in zip(names, found) if path is None]
    if missing:
        raise Missing(f"{', '.join(missing)} is not installed")
    return found


def need_modules(*names):
    """Whether Debian's Python has them."""
    code = f"import importlib.util\nprint(*(n for n in {names!r} if not importlib.util.find_spec(n)), sep=', ')"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    if done.stdout.strip():
        raise Missing(f"{PYTHON} has no {done.stdout.strip()}")


def _listening(bench, name, port, command, **options):
    running = bench.start(name, command, **options)
    wait_until_listening(running, port)
    return port


def _aiohttp(bench, kind, size, **options):
    need_modules("aiohttp", "uvloop")
    port = free_port()
    return _listening(bench, f"aiohttp-{kind}", port,
                      [PYTHON, os.path.join(RIVALS, "aiohttp_service.py"), str(port), kind, str(size)],
                      **options)


def aiohttp_thread(bench, size):
    """ThreadPoolExecutor behind aiohttp and uvloop."""
    return _aiohttp(bench, "thread", size)


def aiohttp_process(bench, size):
    """ProcessPoolExecutor behind aiohttp and uvloop."""
    return _aiohttp(bench, "process", size)


def _gunicorn(bench, name, *arguments):
    (gunicorn,) = need_programs("gunicorn")
    port = free_port()
    return _listening(bench, name, port,
                      [gunicorn, "--bind", f"127.0.0.1:{port}", "--chdir", RIVALS, "--log-level", "warning",
                       "--backlog", "4096", *arguments, WSGI])


def gunicorn_sync(bench, size):
    """Prefork; each answer ends its connection."""
    return _gunicorn(bench, "gunicorn-sync", "--worker-class", "sync", "--workers", str(size))


def gunicorn_prefork_gthread(bench, size):
    """Prefork with keep-alive: processes of one thread."""
    return _gunicorn(bench, "gunicorn-prefork-gthread", "--worker-class", "gthread", "--workers", str(size),
                     "--threads", "1", "--keep-alive", "75")


def gunicorn_gthread(bench, size):
    """One process of several threads, with keep-alive."""
    return _gunicorn(bench, "gunicorn-gthread", "--worker-class", "gthread", "--workers", "1", "--threads", str(size),
                     "--keep-alive", "75")


def _uwsgi(bench, name, plugins, socket, *arguments):
    uwsgi, _ = need_programs("uwsgi", "uwsgi-core")
    if not os.path.exists("/usr/lib/uwsgi/plugins/python3_plugin.so"):
        raise Missing("uwsgi-plugin-python3 is not installed")
    port = free_port()
    return _listening(bench, name, port,
                      [uwsgi, "--plugins", plugins, socket, f"127.0.0.1:{port}", "--chdir", RIVALS, "--module", WSGI,
                       "--master", "--die-on-term", "--need-app", "--disable-logging", "--listen",
                       _backlog(), *arguments])


def _backlog():
    with open("/proc/sys/net/core/somaxconn", encoding="ascii") as file:
        return str(min(4096, int(file.read())))


def uwsgi_prefork(bench, size):
    """Processes that take connections themselves; each answer ends its connection."""
    return _uwsgi(bench, "uwsgi-prefork", "python3", "--http-socket", "--processes", str(size))


def uwsgi_prefork_router(bench, size):
    """Processes behind uWSGI's own HTTP router, which keeps connections."""
    return _uwsgi(bench, "uwsgi-prefork-router", "http,python3", "--http", "--http-keepalive", "--processes", str(size))


def uwsgi_threads(bench, size):
    """One process of several threads; each answer ends its connection."""
    return _uwsgi(bench, "uwsgi-threads", "python3", "--http-socket", "--processes", "1", "--threads", str(size))


def celery(bench, size):
    """A prefork worker of Celery with Redis; before it aiohttp, whose threads wait for results."""
    (redis,) = need_programs("redis-server")
    need_modules("aiohttp", "uvloop", "celery", "redis")
    port = free_port()
    _listening(bench, "redis", port, [redis, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly",
                                      "no", "--dir", bench.directory])
    options = {"env": {**environment(), "CELERY_URL": f"redis://127.0.0.1:{port}/0"}, "cwd": RIVALS}
    bench.start("celery", [PYTHON, "-m", "celery", "-A", "celery_tasks", "worker", "--pool", "prefork",
                           "--concurrency", str(size), "--loglevel", "error", "--without-gossip", "--without-mingle",
                           "--without-heartbeat"], **options)
    return _aiohttp(bench, "celery", CELERY_THREADS, **options)


def gearman(bench, size):
    """gearmand and workers in C; no HTTP."""
    (gearmand,) = need_programs("gearmand")
    program = bench.program("gearman_echo")
    port = free_port()
    _listening(bench, "gearmand", port, [gearmand, "--listen", "127.0.0.1", "--port", str(port), "--log-file",
                                         "stderr"])
    for i in range(size):
        bench.start(f"gearman-worker-{i}", [program, "work", str(port)])
    return port


def webhook(bench, program):
    """webhook, which answers with what the command writes."""
    (path,) = need_programs("webhook")
    hooks = bench.file("hooks.yaml", f"- id: jobs\n  execute-command: {program}\n"
                                     "  include-command-output-in-response: true\n")
    port = free_port()
    return _listening(bench, "webhook", port, [path, "-hooks", hooks, "-ip", "127.0.0.1", "-port", str(port)])


def fcgiwrap(bench, program, size):
    """fcgiwrap with as many processes, behind nginx with keep-alive."""
    nginx, wrapper = need_programs("nginx", "fcgiwrap")
    port = free_port()
    socket = os.path.join(bench.directory, "fcgiwrap.socket")
    bench.start("fcgiwrap", [wrapper, "-c", str(size), "-s", f"unix:{socket}"])
    # As root nginx gives up its rights in its workers; here they keep them, as all others do.
    user = "user root;" if os.geteuid() == 0 else ""
    bench.file("nginx.conf", f"""
daemon off; {user} worker_processes 1; pid {bench.directory}/nginx.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{
	access_log off; keepalive_requests 1000000000;
	client_body_temp_path {bench.directory}/nginx-body; fastcgi_temp_path {bench.directory}/nginx-fastcgi;
	proxy_temp_path {bench.directory}/nginx-proxy; uwsgi_temp_path {bench.directory}/nginx-uwsgi;
	scgi_temp_path {bench.directory}/nginx-scgi;
	server {{
		listen 127.0.0.1:{port} backlog=4096;
		location / {{
			fastcgi_pass unix:{socket};
			fastcgi_param SCRIPT_FILENAME {program};
			fastcgi_param REQUEST_METHOD $request_method;
			fastcgi_pass_request_body off; # the program reads none, which fcgiwrap takes for a failure
		}}
	}}
}}
""")
    return _listening(bench, "nginx", port, [nginx, "-p", bench.directory, "-c",
                                             os.path.join(bench.directory, "nginx.conf")])

"""What the page's tests share: npm modules, Chromium, recordings of real programs, pages of them, and driving those.

Must not: know what a page shows.
"""
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "preload"))
from tracing import ROOT, SCRATCH, TOOL, Trace, clean_environment, compile_program, record  # noqa: E402

HERE = Path(__file__).resolve().parent
PAGE = ROOT / "tools" / "page"
MODULES = PAGE / "node_modules"
MARKUP = "<script>document.title='taken'</script><img src=x onerror=alert(1)>&amp;"


def need_modules():
    if not (MODULES / "esbuild").exists() or shutil.which("node") is None:
        raise unittest.SkipTest("node or tools/page/node_modules is not there; ./dev test installs them")


def need_browser():
    need_modules()
    if not (MODULES / "playwright-core").exists() or shutil.which("chromium") is None:
        raise unittest.SkipTest("chromium or playwright-core is not installed; ./dev test installs them")


def page_of(trace, *options):
    path = Path(tempfile.mkdtemp(dir=SCRATCH)) / "page.html"
    trace.tool("flamegraph", trace.path, "-o", path, *options)
    return path


def drive(page, job):
    """What drive.mjs saw; a page that complains or asks for anything but itself is a failure here already."""
    shots = os.environ.get("TIDEMARK_SCREENSHOTS", "")  # a folder: for people to look at
    prefix = [str(Path(shots) / page.parent.name)] if shots else []
    done = subprocess.run(["node", HERE / "drive.mjs", MODULES, shutil.which("chromium"), page, job, *prefix],
                          capture_output=True, text=True, timeout=600,
                          env={**os.environ, "HOME": str(SCRATCH), "TMPDIR": str(SCRATCH)})
    if done.returncode != 0:
        raise AssertionError(f"{job} of {page}: exit {done.returncode}: {done.stderr[-3000:]}")
    seen = json.loads(done.stdout)
    if seen["complaints"]:
        raise AssertionError(f"the browser complains: {seen['complaints']}")
    if any(request.partition("#")[0] != f"file://{page}" for request in seen["requests"]):
        raise AssertionError(f"the page asked for more than itself: {seen['requests']}")
    return seen


def record_templates(mode="full"):
    """A C++ program with templates and inlines, one of whose functions has a name of markup."""
    plain = compile_program("templates.cc", "-g", "-pthread", sources=[HERE / "programs" / "templates.cc"])
    named = SCRATCH / "templates-named"
    if not named.exists():
        subprocess.run([b"objcopy", b"--redefine-sym", b"MarkupFunction=" + MARKUP.encode(), str(plain), str(named)],
                       check=True)
    return record([named], *([] if mode == "full" else ["--sample-bytes", "4096", "--seed", "7"]), mode=mode)[1]


def record_python():
    script = "import json; [json.loads(json.dumps(list(range(300)))) for _ in range(30)]"
    return record([sys.executable, "-S", "-c", script], "--follow-children", "no")[1]


def record_compiler():
    """The compiler proper, which g++ starts as a child."""
    _, trace = record(["g++", "-std=c++17", "-c", HERE / "programs" / "templates.cc", "-o", SCRATCH / "templates.o"])
    largest = max(trace.path.parent.glob(trace.path.name + "*"), key=lambda path: path.stat().st_size)
    return Trace(largest)


def record_redis():
    """A server that is asked things over a socket of its own, then told to end."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # short: names of sockets are limited
    try:
        path = folder / "trace.tmk"
        server = subprocess.Popen(
            [TOOL, "record", "--mode", "full", "-o", path, "--", "redis-server", "--port", "0", "--save", "", "--dir",
             folder, "--unixsocket", folder / "s"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=clean_environment())
        try:
            deadline = time.monotonic() + 120
            client = socket.socket(socket.AF_UNIX)
            while True:
                try:
                    client.connect(str(folder / "s"))
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
            with client, client.makefile("rb") as answers:
                for i in range(2000):
                    client.sendall(f"SET key:{i} {'x' * (i % 300)}\r\n".encode())
                    answers.readline()
                client.sendall(b"SHUTDOWN NOSAVE\r\n")
                answers.read()
            server.wait(120)
        finally:
            if server.poll() is None:
                server.kill()
                server.wait()
        kept = Path(tempfile.mkdtemp(dir=SCRATCH)) / "redis.tmk"
        shutil.move(path, kept)
        return Trace(kept)
    finally:
        shutil.rmtree(folder, ignore_errors=True)

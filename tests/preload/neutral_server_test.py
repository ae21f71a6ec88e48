"""Servers are the same under tidemark: what they answer, and what the system shows of their processes.

Each server is started plain, sampled and complete, in the same folder, and asked the same. When it is at rest, every
process of it is looked at from outside: threads, signal masks and actions, descriptors, children, user. Sockets are
files in the folder, so that nothing listens on a port. Must not: leave a process behind, or need a network.
"""
import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from neutral_workload import SOAK, check_traces, launch, missing
from tracing import SCRATCH, clean_environment

MODES = ("sampled", "full") + ("bare",) * SOAK
DEADLINE_S = 120
STATUS = ("Threads", "SigBlk", "SigIgn", "SigCgt", "Uid", "Gid", "Groups", "CapEff", "NoNewPrivs", "Seccomp", "VmLck")


def wait_for(condition, what):
    end = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {DEADLINE_S} s for {what}")
        time.sleep(0.03)
    return value


def children_of(pid):
    children = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        children += task.read_text().split()
    return [int(child) for child in children]


def facts_of(pid):
    """What the system shows of one process, without numbers that are others each time."""
    folder = Path(f"/proc/{pid}")
    fields = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
    facts = [f"{name} {fields[name].strip()}" for name in STATUS if name in fields]
    descriptors = []
    for link in (folder / "fd").iterdir():
        target = re.sub(r":\[\d+\]$|(?<=^/dev/pts/)\d+$", "", os.readlink(link))
        # Which number a server's later ones get hangs on the order in which its clients come and go.
        descriptors.append(f"fd {link.name if int(link.name) < 3 else 'n'} {target}")
    facts += sorted(descriptors)
    facts.append(f"children {len(children_of(pid))}")
    return tuple(facts)


def facts_of_tree(pid, name=lambda pid: Path(f"/proc/{pid}/comm").read_text().strip()):
    """The facts of a process and of all below it, sorted; None while processes come and go."""
    try:
        pids, below = [pid], children_of(pid)
        while below:
            pids += below
            below = [child for parent in below for child in children_of(parent)]
        return sorted((name(each), facts_of(each)) for each in pids)
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # the last is what an ending one's folder says
        return None


class Server:
    """One run of a server in a folder; the process is the server's own, not record's."""

    def __init__(self, mode, command, folder, traces, environment=None):
        traces.mkdir()
        if os.geteuid() == 0:
            traces.chmod(0o777)  # a collector that a bare preload starts is of the server's user
        command, environment = launch(mode, command, traces, environment or clean_environment(HOME=str(folder)),
                                      observed=False)
        self.output = open(folder.parent / "output", "w+b")
        self.process = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                                        stdout=self.output, stderr=self.output)
        self.recorded = mode in ("sampled", "full")

    def pid(self):
        if not self.recorded:
            return self.process.pid
        found = [pid for pid in children_of(self.process.pid)
                 if not Path(f"/proc/{pid}/comm").read_text().startswith("tidemark")]
        return found[0] if found else None

    def end(self, number=None):
        """Waits for the end (after a signal, if one is given); returns the exit status as a shell gives it."""
        if number is not None:
            os.kill(self.pid(), number)
        status = self.process.wait(DEADLINE_S)
        self.output.close()
        return status if status >= 0 else 128 - status

    def kill(self):
        if self.process.poll() is None:
            for pid in children_of(self.process.pid) + [self.process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
        self.output.close()


class Servers(unittest.TestCase):
    maxDiff = 4000

    def need(self, packages):
        why = missing(packages)
        if why:
            self.skipTest(why)

    def compare(self, command, use, prepare=None, user=None, foreign=False, environment=None, least_traces=1):
        """Runs `use(server, folder, settle)` plain and in each mode; it returns whatever must be the same.

        settle(what) looks at the server's processes until they are as they were in the plain run.
        """
        base = Path(tempfile.mkdtemp(dir=SCRATCH))
        for path in (SCRATCH, base) if user else ():
            path.chmod(0o755)
        folder = base / "run"
        plain_facts, plain = {}, None
        for mode in (None, *MODES):
            with self.subTest(mode=mode):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                if prepare:
                    prepare(folder)
                if user:
                    for path in (folder, *folder.rglob("*")):
                        shutil.chown(path, user)
                server = Server(mode, command, folder, base / f"traces-{mode}", environment)
                self.addCleanup(server.kill)

                def settle(what):
                    if mode is None:
                        def at_rest():
                            first = facts_of_tree(server.pid())
                            time.sleep(0.3)
                            return first if first == facts_of_tree(server.pid()) else None
                        plain_facts[what] = wait_for(at_rest, what)
                        return
                    end = time.monotonic() + DEADLINE_S / 4
                    while (facts := facts_of_tree(server.pid())) != plain_facts[what] and time.monotonic() < end:
                        time.sleep(0.05)
                    self.assertEqual(facts, plain_facts[what], what)

                answers = use(server, folder, settle)
                if mode is None:
                    plain = answers
                    continue
                self.assertEqual(answers, plain)
                least = 1 if mode == "sampled" else least_traces
                check_traces(self, base / f"traces-{mode}", "sampled" if mode == "sampled" else "full", least, foreign)
        return plain

    def ask(self, command, text=b"", **keywords):
        done = subprocess.run([str(word) for word in command], input=text, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, env=clean_environment(), timeout=DEADLINE_S, **keywords)
        return done.returncode, done.stdout

    def test_redis(self):
        """It links libjemalloc: two allocators in one process; and it forks to save."""
        self.need({"redis-server": "redis-server", "redis-cli": "redis-tools"})

        def use(server, folder, settle):
            cli = ["redis-cli", "-s", folder / "socket"]
            wait_for(lambda: self.ask([*cli, "ping"])[1] == b"PONG\n", "redis")
            settle("started")
            lines = "".join(f"SET key:{i} {'v' * (i % 200)}\nAPPEND key:{i % 10} x\nLPUSH list {i}\nSADD set {i % 70}\n"
                            for i in range(1000))
            answers = [self.ask(cli, lines.encode() + b"STRLEN key:3\nLLEN list\nDEBUG DIGEST\n")]
            answers.append(self.ask([*cli, "bgsave"]))
            wait_for(lambda: b"rdb_bgsave_in_progress:0" in self.ask([*cli, "info", "persistence"])[1], "the dump")
            answers.append(self.ask(cli, b"DEL list\nDEBUG RELOAD NOSAVE\nDBSIZE\nDEBUG DIGEST\nSAVE\nDEBUG RELOAD\n"
                                         b"EVAL 'return #redis.call(\"keys\", \"*\")' 0\nDEBUG DIGEST\nOBJECT none\n"))
            settle("used")
            self.ask([*cli, "shutdown", "nosave"])
            return answers, server.end()

        answers, status = self.compare(
            ["redis-server", "--port", "0", "--unixsocket", "socket", "--save", "", "--enable-debug-command", "local"],
            use, foreign=True)
        self.assertIn(b"998", answers[2][1])
        self.assertEqual(status, 0)

    def test_postgresql(self):
        """As an unprivileged user; root's record follows a command that gives up root's rights."""
        binaries = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))), Path("/usr/lib/postgresql/15/bin"))
        self.need({str(binaries / "initdb"): "postgresql"})
        root = os.geteuid() == 0
        become = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"] if root else []

        template = Path(tempfile.mkdtemp(dir=SCRATCH))
        if root:
            SCRATCH.chmod(0o755)
            shutil.chown(template, "nobody")
        status, said = self.ask([*become, binaries / "initdb", "-D", template, "-A", "trust", "-U", "neutral",
                                 "--no-sync", "-E", "UTF8", "--locale=C"], cwd="/")
        self.assertEqual(status, 0, said)

        def prepare(folder):
            shutil.copytree(template, folder / "data")

        def use(server, folder, settle):
            psql = [binaries / "psql", "-h", folder, "-U", "neutral", "-At", "postgres"]
            wait_for(lambda: self.ask([*psql, "-c", "select 1"])[1] == b"1\n", "postgresql")
            settle("started")
            sql = """create table t(a int primary key, b text); insert into t select i, repeat('x', i % 90) from
generate_series(1, 6000) i; create index on t(b); select b, count(*) from t group by b order by b limit 5;
select sum(x.a * y.a) from t x join t y on x.b = y.b where x.a < 900; begin; delete from t where a % 3 = 0; rollback;
explain (costs off) select * from t order by b; select * from nothing; vacuum analyze t; select count(*) from t;
do $$ begin for i in 1..300 loop execute 'select ' || i; end loop; end $$; checkpoint;
select json_agg(a) from t where a < 20; select pg_backend_pid() > 0, regexp_replace('a1b2', '[0-9]', '#', 'g');
"""
            answers = [self.ask(psql, sql.encode())]
            parallel = [subprocess.Popen([*map(str, psql), "-c", f"select sum(a % {i + 2}), pg_sleep(0.1) from t"],
                                         stdout=subprocess.PIPE, env=clean_environment()) for i in range(5)]
            answers += [(each.communicate(timeout=DEADLINE_S)[0], each.returncode) for each in parallel]
            settle("used")
            return answers, server.end(signal.SIGINT)

        answers, status = self.compare(
            [*become, binaries / "postgres", "-D", "data", "-c", "listen_addresses=", "-c",
             "unix_socket_directories=..", "-c", "autovacuum=off", "-c", "fsync=off", "-c", "max_parallel_workers=0"],
            use, prepare, "nobody" if root else None, least_traces=6)
        self.assertIn(b"6000", answers[0][1])
        self.assertEqual(status, 0)

    def test_nginx(self):
        """A master that stays root and workers that do not (run by root); a reload replaces the workers."""
        self.need({"/usr/sbin/nginx": "nginx-light", "curl": "curl"})
        if os.geteuid() != 0:
            self.skipTest("workers of nginx change their user only when root starts it")
        configuration = """daemon off; worker_processes 2; pid pid; error_log errors; user nobody nogroup;
events { worker_connections 64; }
http { access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi; gzip on; gzip_min_length 10; gzip_types text/plain;
  server { listen unix:FOLDER/socket; root FOLDER; location /a { return 200 "answer\\n"; }
    location /old { return 301 /a; } } }
"""

        def prepare(folder):
            (folder / "nginx.conf").write_text(configuration.replace("FOLDER", str(folder)))
            (folder / "text.txt").write_text("a line of text\n" * 3000)

        def use(server, folder, settle):
            def get(path, *options):
                return self.ask(["curl", "-s", "-w", "%{http_code} %{size_download}\\n", "--unix-socket",
                                 folder / "socket", *options, f"http://x/{path}"])
            wait_for(lambda: get("a")[1] == b"answer\n200 7\n", "nginx")
            settle("started")
            answers = [get(path, *options) for _ in range(5) for path in ("text.txt", "nothing", "a", "old")
                       for options in ((), ("--compressed",), ("-r", "10-40"))]
            workers = set(children_of(server.pid()))
            os.kill(server.pid(), signal.SIGHUP)
            wait_for(lambda: len(now := set(children_of(server.pid()))) == 2 and not now & workers, "new workers")
            answers += [get("text.txt"), get("a")]
            settle("reloaded")
            return answers, server.end(signal.SIGQUIT), (folder / "errors").read_text().count("[alert]")

        answers, status, alerts = self.compare(["/usr/sbin/nginx", "-e", "errors", "-p", ".", "-c", "nginx.conf"], use,
                                               prepare, "nobody", least_traces=5)
        self.assertEqual((answers[-1], status, alerts), ((0, b"answer\n200 7\n"), 0, 0))

    def test_python_server_and_curl(self):
        self.need({"/usr/bin/python3": "python3", "curl": "curl"})
        script = ("import http.server, os, signal, socketserver, sys\n"
                  "class H(http.server.SimpleHTTPRequestHandler):\n"
                  "  address_string = lambda self: 'local'\n"
                  "  log_date_time_string = lambda self: 'now'\n"
                  "class S(socketserver.ThreadingMixIn, socketserver.UnixStreamServer): daemon_threads = True\n"
                  "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
                  "S('socket', H).serve_forever()\n")

        def prepare(folder):
            (folder / "main.py").write_text(script)
            (folder / "text").write_text("a line of text\n" * 20000)

        def use(server, folder, settle):
            wait_for((folder / "socket").exists, "the server")
            settle("started")
            answers = []
            for path in ("text", "nothing", "text", ""):
                record = self.run_curl(folder, path, server)
                answers.append((record[0], re.sub(rb"(?m)^(Date|Last-Modified):.*\n", b"", record[1])))
            settle("used")
            return answers, server.end(signal.SIGTERM), (folder.parent / "output").read_bytes()

        answers, status, log = self.compare(["/usr/bin/python3", "main.py"], use, prepare)
        self.assertIn(b"404", answers[1][1])
        self.assertIn(b'"GET /text HTTP/1.1" 200', log)
        self.assertEqual(status, 7)

    def run_curl(self, folder, path, server):
        """curl runs in the mode of the server that it asks."""
        traces = Path(tempfile.mkdtemp(dir=SCRATCH))
        command, environment = launch("full" if server.recorded else None, ["curl", "-s", "-i", "--unix-socket",
                                      folder / "socket", f"http://x/{path}"], traces, clean_environment(), False)
        done = subprocess.run(command, capture_output=True, env=environment, timeout=DEADLINE_S)
        self.assertEqual(done.stderr, b"")
        if server.recorded:
            check_traces(self, traces, "full")
        return done.returncode, done.stdout

    def test_openssl_server(self):
        self.need({"openssl": "openssl"})

        def prepare(folder):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "key.pem",
                            "-out", folder / "cert.pem", "-subj", "/CN=neutral", "-days", "2"], check=True,
                           capture_output=True, env=clean_environment())
            (folder / "text").write_text("hello\n" * 2000)

        def use(server, folder, settle):
            wait_for((folder / "socket").exists, "the server")
            settle("started")
            answers = []
            for version in ("-tls1_2", "-tls1_3"):
                for _ in range(3):
                    status, text = self.ask(["openssl", "s_client", "-unix", folder / "socket", version, "-quiet",
                                             "-verify_quiet", "-verify_return_error", "-CAfile", folder / "cert.pem"],
                                            b"GET /text HTTP/1.0\r\n\r\n")
                    answers.append((status, text))
            settle("used")
            return answers, server.end(signal.SIGTERM)

        answers, status = self.compare(["openssl", "s_server", "-unix", "socket", "-key", "key.pem", "-cert",
                                        "cert.pem", "-WWW", "-quiet"], use, prepare)
        self.assertIn(b"hello", answers[0][1])
        self.assertEqual(status, 128 + signal.SIGTERM)

    def test_tmux(self):
        """A server with terminals, and shells in them."""
        self.need({"tmux": "tmux"})
        tmux = ["tmux", "-f", "/dev/null", "-S", "socket"]

        def use(server, folder, settle):
            wait_for((folder / "socket").exists, "tmux")
            self.ask([*tmux, "new-session", "-d", "-x", "80", "-y", "24"], cwd=folder)

            def at_prompt():
                return self.ask([*tmux, "capture-pane", "-p", "-t", "0.0"], cwd=folder)[1].rstrip()[-1:] in (b"#", b"$")

            for keys in ("echo $((6 * 7)) > out; stty size; tty | cut -c1-8", "seq 30 | tail -n 3", "ulimit -n"):
                wait_for(at_prompt, "the shell")
                self.ask([*tmux, "send-keys", f"{keys}; touch typed", "Enter"], cwd=folder)
                wait_for((folder / "typed").exists, "the command")
                (folder / "typed").unlink()
            wait_for(at_prompt, "the shell")
            self.ask([*tmux, "split-window", "-h", "sh -c 'echo other; exec sleep 1000'"], cwd=folder)
            shown = wait_for(lambda: (text := self.ask([*tmux, "capture-pane", "-p", "-t", "0.1"], cwd=folder)[1])
                             .strip() == b"other" and text, "the other pane")
            first = self.ask([*tmux, "capture-pane", "-p", "-t", "0.0"], cwd=folder)
            settle("used")
            answers = [shown, first, (folder / "out").read_bytes(),
                       self.ask([*tmux, "list-panes", "-F", "#{pane_width} #{pane_height} #{pane_dead}"], cwd=folder)]
            self.ask([*tmux, "kill-server"], cwd=folder)
            return answers, server.end()

        answers, status = self.compare([*tmux, "-D"], use, environment=clean_environment(
            TERM="screen", SHELL="/bin/sh", PS1="$ "))
        self.assertEqual((answers[2], status), (b"42\n", 0))


if __name__ == "__main__":
    unittest.main()

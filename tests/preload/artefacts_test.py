"""Files that a recording and its views leave behind (hazard group I): whose they are, where they go, what is in them.

Rows: I1 names and links, I2 modes and contents, I5 raised rights, I6 other users, I7 PR_SET_DUMPABLE; that names in a
trace are harmless in every view is hostile_names_test.py. What needs a second user needs root, and says so if skipped.
Must not: leave a file, a mount or a process behind; work outside of its own folder but in a mount namespace.
"""
import ctypes
import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from tracing import LIBRARY, SCRATCH, TOOL, clean_environment, collector_of, compile_program, preload, record

NOBODY = 65534
STRANGER = 65533
NEEDS_ROOT = unittest.skipUnless(os.geteuid() == 0, "needs root, to be other users as well")


def run(*arguments, timeout=120, **keywords):
    keywords.setdefault("env", clean_environment())
    return subprocess.run([str(a) for a in arguments], capture_output=True, text=True, errors="replace",
                          timeout=timeout, stdin=subprocess.DEVNULL, **keywords)


def wait_until(condition, what, deadline_s=60):
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"in vain: {what}")
        time.sleep(0.02)


def is_trace(path):
    return path.is_file() and not path.is_symlink() and path.read_bytes()[:8] == b"TIDEMARK"


def mode_of(path):
    return path.lstat().st_mode & 0o7777


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(dir=SCRATCH))

    def names(self):
        return sorted(path.name for path in self.folder.iterdir())


class Links(Folder):
    """I1: a name that somebody else has prepared is never written through."""

    def setUp(self):
        super().setUp()
        self.victim = self.folder / "victim"
        self.victim.write_text("precious")
        self.link = self.folder / "x.tmk"

    def assert_victim_is_whole(self):
        self.assertEqual(self.victim.read_text(), "precious")

    def test_i1_record_refuses_a_symbolic_link(self):
        for target in (self.victim, self.folder / "nowhere"):
            with self.subTest(target=target.name):
                self.link.symlink_to(target)
                done = run(TOOL, "record", "-o", self.link, "--", "echo", "ran")
                self.assertEqual((done.returncode, done.stdout), (125, ""), done.stderr)
                self.assertIn("symbolic link", done.stderr)
                self.assert_victim_is_whole()
                self.assertEqual(self.names(), ["victim", "x.tmk"])
                self.link.unlink()

    def test_i1_bare_preload_goes_round_a_symbolic_link(self):
        self.link.symlink_to(self.victim)
        self.assertEqual(preload(["true"], self.link).returncode, 0)
        other = self.folder / "x-2.tmk"
        wait_until(lambda: is_trace(other), "a trace beside the link")
        self.assert_victim_is_whole()
        self.assertEqual(os.readlink(self.link), str(self.victim))

    def test_i1_children_go_round_symbolic_links(self):
        """Names of children's traces can be foretold but for the pid: here all of the next ones are taken."""
        last = subprocess.Popen(["true"])
        last.wait()
        taken = range(last.pid + 1, last.pid + 2000)
        for pid in taken:
            (self.folder / f"x.tmk.{pid}").symlink_to(self.victim)
        done = run(TOOL, "record", "-o", self.link, "--", "sh", "-c", "sh -c :; sh -c :; ls / >/dev/null")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assert_victim_is_whole()
        self.assertTrue(is_trace(self.link))
        for pid in taken:
            self.assertTrue((self.folder / f"x.tmk.{pid}").is_symlink())

    def test_i1_views_do_not_write_through_links(self):
        _, trace = record(["true"])
        for command in (["flamegraph"], ["export", "--format", "json"]):
            with self.subTest(command=command[0]):
                link = self.folder / "view.svg"
                link.symlink_to(self.victim)
                done = run(TOOL, command[0], trace.path, *command[1:], "-o", link)
                self.assert_victim_is_whole()
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertFalse(link.is_symlink())  # the link was replaced, not what it leads to
                link.unlink()
                self.assertEqual(self.names(), ["victim"])

    def test_i1_a_hard_link_keeps_the_old_trace(self):
        _, trace = record(["true"])
        shutil.copy(trace.path, self.link)
        other = self.folder / "linked.tmk"
        os.link(self.link, other)
        before = other.read_bytes()
        done = run(TOOL, "record", "-o", self.link, "--", "ls", "/")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(other.read_bytes(), before)
        self.assertNotEqual(other.stat().st_ino, self.link.stat().st_ino)
        self.assertTrue(is_trace(self.link))

    def test_i1_no_pipe_is_opened_and_no_folder_replaced(self):
        pipe, folder = self.folder / "pipe", self.folder / "folder"
        os.mkfifo(pipe)
        folder.mkdir()
        for path, word in ((pipe, "regular file"), (folder, "directory"), (Path("/dev/null"), "regular file")):
            with self.subTest(path=path.name):
                done = run(TOOL, "record", "-o", path, "--", "echo", "ran", timeout=60)
                self.assertEqual((done.returncode, done.stdout), (125, ""), done.stderr)
                self.assertIn(word, done.stderr)
                self.assertEqual(preload(["true"], path).returncode, 0)
        self.assertTrue(pipe.is_fifo() and folder.is_dir() and Path("/dev/null").is_char_device())

    @NEEDS_ROOT
    def test_i1_others_files_in_a_sticky_folder_stay(self):
        """/tmp as it is: everybody may create, only the owner may remove. Root's trace lies where nobody's goes."""
        _, trace = record(["true"])
        shared = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, shared)
        shared.chmod(0o1777)
        theirs = shared / "x.tmk"
        shutil.copy(trace.path, theirs)
        tool, environment = visible_tool(shared)
        for mode in (0o600, 0o644, 0o666):
            with self.subTest(mode=oct(mode)):
                theirs.chmod(mode)
                before = theirs.read_bytes()
                done = run(tool, "record", "-o", theirs, "--", "true", user=NOBODY, group=NOBODY, env=environment)
                self.assertEqual(theirs.read_bytes(), before)
                self.assertEqual(theirs.stat().st_uid, 0)
                self.assertIn(done.returncode, (0, 125), done.stderr)
                if done.returncode == 0:  # then it says where the trace is
                    self.assertIn("x-2.tmk", done.stderr)
                    (shared / "x-2.tmk").unlink()


def visible_tool(folder):
    """A copy of tool and library that other users can run; returns it and the environment that it wants."""
    copies = [folder / "tools" / TOOL.name, folder / "interpose" / LIBRARY.name]  # as they lie in a build
    for copy, original in zip(copies, (TOOL, LIBRARY)):
        copy.parent.mkdir(mode=0o755)
        shutil.copy(original, copy)
        copy.chmod(0o755)
    folder.chmod(0o1777)
    return copies[0], {**clean_environment(HOME=str(folder)), "XDG_CACHE_HOME": str(folder / "cache")}


class Modes(Folder):
    """I2: what is written is its owner's alone, whatever the umask."""

    def test_i2_traces_and_views_are_0600(self):
        for mask in (0o000, 0o777):
            with self.subTest(umask=oct(mask)):
                folder = Path(tempfile.mkdtemp(dir=self.folder))
                path = folder / "x.tmk"
                # The folder of the symbol cache is made on the way: it has to be usable, so no umask 0777 for views.
                done = run("sh", "-c", f"umask {mask:o}; exec \"$@\"", "-", TOOL, "record", "-o", path, "--",
                           "sh", "-c", "ls / >/dev/null; ls / >/dev/null")
                self.assertEqual(done.returncode, 0, done.stderr)
                environment = {**clean_environment(), "XDG_CACHE_HOME": str(folder / "cache")}
                views = folder / "x.svg", folder / "x.json"
                if mask == 0:
                    for view, command in zip(views, (["flamegraph"], ["export", "--format", "json"])):
                        done = run("sh", "-c", "umask 0; exec \"$@\"", "-", TOOL, command[0], path, *command[1:], "-o",
                                   view, env=environment)
                        self.assertEqual(done.returncode, 0, done.stderr)
                    self.assertTrue(all(view.exists() for view in views))
                written = [file for file in folder.rglob("*") if file.is_file()]
                self.assertGreaterEqual(len([file for file in written if ".tmk" in file.name]), 3)
                for file in written:
                    self.assertEqual(mode_of(file), 0o600, file)
                for inner in (entry for entry in folder.rglob("*") if entry.is_dir()):
                    self.assertEqual(mode_of(inner), 0o700, inner)

    def test_i2_bare_preload_writes_0600(self):
        path = self.folder / "x.tmk"
        done = preload(["sh", "-c", "umask 0; exec ls /"], path)
        self.assertEqual(done.returncode, 0, done.stderr)
        wait_until(lambda: len(self.names()) == 2, "the traces of sh and ls")
        for name in self.names():
            self.assertEqual(mode_of(self.folder / name), 0o600, name)


def sections_of(data):
    """(type, payload as it was before compression) of a trace; docs/trace-format.md, "Section"."""
    zstd = ctypes.CDLL("libzstd.so.1")
    zstd.ZSTD_decompress.restype = ctypes.c_size_t
    at = 16
    while at < len(data):
        magic, kind, encoding, stored, raw = struct.unpack_from("<IHHII", data, at)
        assert magic == 0x534b4d54, at
        payload = data[at + 32:at + 32 + stored]
        if encoding == 1:
            room = ctypes.create_string_buffer(raw)
            size = zstd.ZSTD_decompress(room, ctypes.c_size_t(raw), payload, ctypes.c_size_t(stored))
            assert size == raw, at
            payload = room.raw
        yield kind, payload
        at += 32 + stored


def varints(data):
    value = shift = 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield value
            value = shift = 0


def return_addresses(table):
    """Of a STACKS section: column 3, differences in zigzag; "Tables" in the document."""
    at = 0

    def varint():
        nonlocal at
        end = at
        while table[end] >= 128:
            end += 1
        value, = varints(table[at:end + 1])
        at = end + 1
        return value
    varint()  # rows
    while at < len(table):
        column, size = varint(), varint()
        if column == 3:
            address = 0
            for value in varints(table[at:at + size]):
                address = (address + (value >> 1 ^ -(value & 1))) % 2**64
                yield address
        at += size


class Contents(Folder):
    """I2: no environment and no memory contents in a trace; the command line is."""

    IN_ENVIRONMENT = "Kx7QvHb2-environment-Zr9WmTd4"
    IN_MEMORY = "Lw3NpGc8-memory-Ys5FjRk6"
    IN_COMMAND = "Mh6TzDf1-command-Xq8BnVg0"

    def test_i2_secrets_stay_where_they_are(self):
        # With frame pointers and without: rbp holds the program's own words then.
        for flags in (("-O0",), ("-O2", "-fomit-frame-pointer", "-fno-asynchronous-unwind-tables")):
            program = compile_program("artefact_secrets.c", "-pthread", *flags)
            for mode, options in (("full", ()), ("sampled", ("--sample-bytes", "1"))):
                with self.subTest(flags=flags, mode=mode):
                    environment = clean_environment(ARTEFACT_SECRET=self.IN_ENVIRONMENT)
                    done, trace = record([program, self.IN_COMMAND], *options, mode=mode, environment=environment,
                                         stdin=(self.IN_MEMORY + "\n").encode())
                    self.assertEqual(done.stdout, b"done\n")
                    self.check(trace.path.read_bytes())

    def check(self, data):
        sections = list(sections_of(data))
        everything = b"|".join([data, *(payload for _, payload in sections)])
        self.assertIn(self.IN_COMMAND.encode(), everything, "the search finds nothing")
        addresses = {address for kind, payload in sections if kind == 3 for address in return_addresses(payload)}
        self.assertGreater(len(addresses), 20)
        for secret in (self.IN_ENVIRONMENT, self.IN_MEMORY):
            # Eight bytes are a word: of the stack, or a register, that was taken for a return address.
            for at in range(len(secret) - 7):
                window = secret[at:at + 8].encode()
                self.assertNotIn(window, everything)
                self.assertNotIn(window[::-1], everything)
                self.assertNotIn(int.from_bytes(window, "little"), addresses)
        self.assertNotIn(b"ARTEFACT_SECRET", everything)
        self.assertNotIn(b"TIDEMARK_OPTIONS", everything)


@NEEDS_ROOT
class RaisedRights(Folder):
    """I5: in a process whose rights were raised by its file (AT_SECURE), the library does nothing."""

    def test_i5_setuid_programs_are_left_alone(self):
        """ld.so ignores LD_PRELOAD there; a system-wide /etc/ld.so.preload, here of a mount namespace, it does not."""
        shared = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, shared)
        visible_tool(shared)
        plain, raised = shared / "plain", shared / "raised"
        shutil.copy(compile_program("artefact_process.c"), plain)
        shutil.copy(plain, raised)
        raised.chmod(0o4755)
        etc = shared / "etc"
        etc.mkdir()
        for name in ("passwd", "group", "nsswitch.conf", "ld.so.cache"):
            if Path("/etc", name).exists():
                shutil.copy(Path("/etc", name), etc)
        # The tools that set this up shall not be preloaded, so the file is written last, by a shell that then becomes
        # the program itself.
        script = (f"mount --make-rprivate / && mount --bind {etc} /etc && exec setpriv --reuid={NOBODY} "
                  f"--regid={NOBODY} --clear-groups sh -c 'read go; exec \"$0\"' \"$1\"")
        if run("unshare", "-m", "sh", "-c", f"mount --make-rprivate / && mount --bind {etc} /etc").returncode != 0:
            self.skipTest("may not make a mount namespace here")
        (etc / "ld.so.preload").touch()
        for program, secure in ((plain, 0), (raised, 1)):
            with self.subTest(program=program.name):
                trace = shared / f"{program.name}.tmk"
                (etc / "ld.so.preload").write_text("")
                environment = clean_environment(TIDEMARK_OPTIONS=f"mode=full,out={trace}")
                child = subprocess.Popen(["unshare", "-m", "sh", "-c", script, "-", program], env=environment,
                                         text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=subprocess.PIPE)
                wait_until(lambda: re.search(rf"^Name:\tsh\n[^$]*^Uid:\t{NOBODY}\b",
                                             Path(f"/proc/{child.pid}/status").read_text(), re.M), "the last shell")
                (etc / "ld.so.preload").write_text(f"{shared}/interpose/libtidemark.so\n")
                said, errors = child.communicate("\n", timeout=60)
                self.assertEqual(child.returncode, 0, errors)
                facts = dict(line.rsplit(" ", 1) for line in said.splitlines())
                self.assertEqual(facts["secure"], str(secure))
                self.assertEqual(facts["library"], "1")
                self.assertEqual(facts["heap of libc"], str(secure))
                self.assertEqual(errors, "")
                self.assertEqual(facts["segment"], "0" if secure else "1")
        # The plain one's collector may still write; of the raised one nothing ever comes.
        wait_until((shared / "plain.tmk").exists, "the trace of the ordinary program")
        self.assertFalse((shared / "raised.tmk").exists())


MAGIC = 0x314d5345534b4d54  # kSessionMagic in profiler/session.h
ASK = """
import socket, struct, sys, array
name, pid = sys.argv[1], int(sys.argv[2])
ask = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
ask.settimeout(60)
ask.connect(b"\\0tidemark-" + name.encode())
ask.send(struct.pack("<QIIII", %d, 1, pid, 0, 0))
reply, control, _, _ = ask.recvmsg(64, 1024)
print(struct.unpack_from("<QII", reply)[2] if len(reply) == 24 else "none", len(control))
""" % MAGIC


# A stranger that listens on a name until its standard input ends; prints how many called, and what it was told.
LISTEN = """
import select, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(b"\\0tidemark-" + sys.argv[1].encode())
listener.listen(100)
print("ready", flush=True)
calls, told = 0, b""
while True:
    ready = select.select([listener, sys.stdin], [], [])[0]
    if listener not in ready:
        break
    call, _ = listener.accept()
    calls += 1
    call.settimeout(60)
    told += call.recv(1000)
    call.close()
print(calls, told.hex() or "nothing")
"""


@NEEDS_ROOT
class OtherUsers(Folder):
    """I6: the socket's name can be seen by everybody; what decides is who asks."""

    def start(self, user, command=("sleep", "600")):
        shared = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, shared)
        tool, environment = visible_tool(shared)
        path = shared / "x.tmk"
        self.record = subprocess.Popen([tool, "record", "-q", "-o", path, "--", *command], env=environment, user=user,
                                       group=user, extra_groups=[], text=True, stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.addCleanup(self.end, self.record)
        children = Path(f"/proc/{self.record.pid}/task/{self.record.pid}/children")

        def command_pid():
            for pid in children.read_text().split():
                try:
                    if b"TIDEMARK_OPTIONS" in Path(f"/proc/{pid}/environ").read_bytes():
                        return int(pid)
                except ProcessLookupError:  # between fork and exec
                    pass
            return None
        wait_until(command_pid, "the recorded command")
        pid = command_pid()
        session = re.search(rb"session=([0-9a-f]{32})", Path(f"/proc/{pid}/environ").read_bytes())[1].decode()
        return pid, session, path

    @staticmethod
    def end(record_process):
        record_process.terminate()  # passed on to the command
        record_process.communicate()

    def ask(self, session, pid, user):
        done = run("python3", "-c", ASK, session, pid, user=user, group=user, extra_groups=[])
        self.assertEqual(done.returncode, 0, done.stderr)
        accepted, control = done.stdout.split()
        return accepted, int(control)

    def test_i6_a_stranger_gets_no_segment(self):
        for user in (0, NOBODY):
            with self.subTest(recorded_as=user):
                pid, session, path = self.start(user)
                self.assertIn(f"@tidemark-{session}", Path("/proc/net/unix").read_text())
                self.assertEqual(self.ask(session, pid, STRANGER), ("0", 0))
                accepted, control = self.ask(session, pid, user)
                self.assertEqual(accepted, "1")
                self.assertGreater(control, 0)
                self.assertEqual(path.stat().st_uid, user)


    def test_i6_a_strangers_collector_is_told_nothing(self):
        """Abstract names have no owner: when the collector has died, anybody may listen where it did."""
        _, session, path = self.start(0, ("sh", "-c", "while read go; do ls /; (echo $(echo forked)); done"))
        os.kill(collector_of(path), signal.SIGKILL)
        wait_until(lambda: session not in Path("/proc/net/unix").read_text(), "the end of the collector")
        # Root could do all this anyway; that it is told something shows that the stranger would be, too.
        for user in (STRANGER, 0):
            listener = subprocess.Popen(["python3", "-c", LISTEN, session], user=user, group=user, extra_groups=[],
                                        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.assertEqual(listener.stdout.readline(), "ready\n")
            self.record.stdin.write("go\n")
            self.record.stdin.flush()
            while self.record.stdout.readline() != "forked\n":
                self.assertIsNone(self.record.poll())
            calls, told = listener.communicate("", timeout=120)[0].split()
            with self.subTest(listener=user):
                self.assertGreaterEqual(int(calls), 1)
                self.assertEqual(told == "nothing", user == STRANGER, told)


class Dumpable(Folder):
    """I7: PR_SET_DUMPABLE is the program's."""

    def test_i7_dumpable_stays_as_it_is(self):
        program = compile_program("artefact_process.c")
        plain = run(program, "undumpable").stdout
        self.assertIn("dumpable 1\n", plain)
        self.assertTrue(plain.endswith("dumpable 0\n"))
        for mode in ("sampled", "full"):
            with self.subTest(mode=mode):
                done, trace = record([program, "undumpable"], mode=mode)
                said = [line for line in done.stdout.decode().splitlines() if line.startswith("dumpable")]
                self.assertEqual(said, [line for line in plain.splitlines() if line.startswith("dumpable")])
                if mode == "full":
                    self.assertGreater(trace.info()["run"]["events"]["alloc"]["recorded"], 10_000)


if __name__ == "__main__":
    unittest.main()

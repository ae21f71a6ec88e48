#!/usr/bin/env python3
"""Runs every test suite of the tree and sums up over all of them, one line per test file.

Suites: the tests that meson knows (GoogleTest programs and plain ones), once more under sanitizers, the fuzz corpora,
and every Python unittest file below tests/ and analysis/. Counts single test cases. Python's standard library only, so
that nothing has to be installed by pip. Must not: know what any test is about.

  tests/run.py [FILTER]           FILTER: part of SUITE/FILE/CASE; sanitizer builds run only if it begins with
                                  asan, tsan or fuzz
A Python test file that has to run alone says so in a line of its own: "# tests/run.py: serial".
Exit status: 0 when nothing failed and something ran, 1 otherwise. The last line is "N passed, N failed, N skipped".
"""
import concurrent.futures
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
PYTHON_TIMEOUT_S = 4 * 3600 if os.environ.get("TIDEMARK_SOAK") == "1" else 900
SKIP_STATUS = 77  # what a plain test program exits with to say "skipped", as meson and automake have it
SANITIZERS = {
    "asan": ("build-asan", "address,undefined", ("unit", "fuzz")),
    "tsan": ("build-tsan", "thread", ("tsan",)),
}
SANITIZER_ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}


@dataclass
class Case:
    name: str
    outcome: str
    seconds: float = 0.0
    detail: str = ""  # why it failed or was skipped


@dataclass
class Job:
    """One process that runs one or more cases."""
    name: str  # SUITE/FILE
    command: list
    timeout_s: float
    environment: dict = field(default_factory=dict)
    working_directory: Path = ROOT
    parallel: bool = True
    is_python: bool = False


# --- One job ----------------------------------------------------------------------------------------------------------

def run_process(job, extra_environment):
    """Runs a job's process in its own process group. Returns (exit status or None on timeout, output, seconds)."""
    environment = {**os.environ, **job.environment, **extra_environment}
    start = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(job.command, cwd=job.working_directory, env=environment, stdin=subprocess.DEVNULL,
                                   stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = process.wait(job.timeout_s)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            # What the test left behind in its process group would disturb later tests.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        seconds = time.monotonic() - start
        output.seek(0)
        text = output.read().decode(errors="replace")
    return status, text, seconds


def describe_end(status, timeout_s):
    if status is None:
        return f"did not end within {timeout_s:.0f} s and was killed"
    if status < 0:
        return f"died of {signal.Signals(-status).name}"
    return f"exited with status {status}"


def tail(text, lines=60):
    kept = text.rstrip().splitlines()
    return "\n".join((["..."] if len(kept) > lines else []) + kept[-lines:])


def cases_of_gtest_xml(path):
    cases = []
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        name = f'{case.get("classname")}.{case.get("name")}'
        failures = [failure.text or failure.get("message") or "" for failure in case.findall("failure")]
        skip = case.find("skipped")
        if case.get("status") == "notrun":  # DISABLED_, or filtered out
            if case.get("name").startswith("DISABLED_"):
                cases.append(Case(name, FAILED, detail="a switched-off test: mend it or remove it"))
            continue
        outcome, detail = PASSED, ""
        if failures:
            outcome, detail = FAILED, "\n".join(failures)
        elif skip is not None:
            outcome, detail = SKIPPED, (skip.get("message") or skip.text or "no reason given").strip().splitlines()[-1]
        cases.append(Case(name, outcome, float(case.get("time") or 0), detail))
    return cases


def cases_of_gtest_output(text, end):
    """What can be told of a GoogleTest program that died before it wrote its XML."""
    cases = []
    running = None
    for line in text.splitlines():
        match = re.match(r"\[ +(RUN|OK|FAILED|SKIPPED) +\] ([\w./]+)", line)
        if not match:
            continue
        if match[1] == "RUN":
            running = match[2]
        elif running == match[2]:
            outcome = {"OK": PASSED, "FAILED": FAILED, "SKIPPED": SKIPPED}[match[1]]
            cases.append(Case(running, outcome, detail="" if outcome == PASSED else "see the output of the program"))
            running = None
    cases.append(Case(running or "(program)", FAILED, detail=f"{end}\n{tail(text)}"))
    return cases


def run_program(job, scratch):
    """A test that meson knows: GoogleTest writes XML on being asked by the environment, others have one status."""
    report = Path(scratch) / (re.sub(r"\W", "_", job.name) + ".xml")
    status, text, seconds = run_process(job, {"GTEST_OUTPUT": f"xml:{report}", "GTEST_COLOR": "no"})
    end = describe_end(status, job.timeout_s)
    if report.exists() and status in (0, 1):
        cases = cases_of_gtest_xml(report)
        if status != 0 and not any(case.outcome == FAILED for case in cases):
            cases.append(Case("(program)", FAILED, detail=f"no case failed, but it {end}\n{tail(text)}"))
        return cases, seconds
    if "[ RUN      ]" in text or report.exists():
        return cases_of_gtest_output(text, end), seconds
    outcome = {0: PASSED, SKIP_STATUS: SKIPPED}.get(status, FAILED)
    last_line = (text.strip().splitlines() or ["no reason given"])[-1]
    detail = {PASSED: "", SKIPPED: last_line}.get(outcome, f"{end}\n{tail(text)}")
    return [Case("(program)", outcome, seconds, detail)], seconds


def run_python(job, scratch):
    report = Path(scratch) / (re.sub(r"\W", "_", job.name) + ".jsonl")
    status, text, seconds = run_process(job, {"TIDEMARK_TEST_REPORT": str(report)})
    cases = []
    running = None
    for line in report.read_text().splitlines() if report.exists() else []:
        record = json.loads(line)
        if "start" in record:
            running = record["start"]
        else:
            cases.append(Case(**record))
            running = None
    if status != 0 or running or not cases:
        why = f"{describe_end(status, job.timeout_s)}\n{tail(text)}"
        if running or status not in (0, 1) or not any(case.outcome == FAILED for case in cases):
            if status == 0 and not cases:
                why = "the file holds no test: only unittest.TestCase classes are found\n" + tail(text)
            cases.append(Case(running or "(file)", FAILED, detail=why))
    return cases, seconds


# --- What there is to run ---------------------------------------------------------------------------------------------

def fixed_addresses():
    """Sanitizers of older compilers do not start where the kernel randomizes addresses much: run them without."""
    command = ["setarch", "-R"]
    try:
        works = subprocess.run([*command, "true"], capture_output=True).returncode == 0  # containers may forbid it
    except FileNotFoundError:
        works = False
    return command if works else []


def build_environment(build):
    return {"TIDEMARK_SOURCE_DIR": str(ROOT), "TIDEMARK_BUILD_DIR": str(build), "PYTHONDONTWRITEBYTECODE": "1"}


def introspect(build, what):
    output = subprocess.run(["meson", "introspect", what, str(build)], check=True, capture_output=True, text=True)
    return json.loads(output.stdout)


def meson_tests(build):
    return introspect(build, "--tests")


def ninja_targets(build, suites):
    """What the tests of these suites need built: their programs and what they name as dependencies."""
    needed = {target for test in meson_tests(build) if set(suites_of(test)) & set(suites) for target in test["depends"]}
    return [os.path.relpath(file, build) for target in introspect(build, "--targets") if target["id"] in needed
            for file in target["filename"]]


def suites_of(test):
    return [suite.split(":")[-1] for suite in test["suite"]] or ["unit"]


def meson_jobs(build, prefix=None, wanted=None):
    jobs = []
    wrapper = fixed_addresses() if prefix else []
    for test in meson_tests(build):
        suites = suites_of(test)
        if wanted and not set(suites) & set(wanted):
            continue
        environment = {**build_environment(build), **test["env"]}
        timeout_s = test["timeout"] or 300
        if prefix:
            environment.update(SANITIZER_ENVIRONMENT)
            timeout_s *= 3
        # A corpus replay tells the most under sanitizers, and there it has its own suite name.
        suite = "fuzz" if "fuzz" in suites else prefix or suites[0]
        if suite == "fuzz" and not prefix:
            continue
        jobs.append(Job(f'{suite}/{test["name"]}', wrapper + test["cmd"], timeout_s, environment,
                        Path(test["workdir"] or build), test["is_parallel"]))
    return jobs


def python_jobs(build):
    files = [path for folder in ("tests", "analysis") for pattern in ("test_*.py", "*_test.py")
             for path in (ROOT / folder).rglob(pattern)]
    jobs = []
    for path in sorted(set(files)):
        relative = path.relative_to(ROOT).with_suffix("")
        name = "/".join(relative.parts[1:] if relative.parts[0] == "tests" else relative.parts)
        parallel = not re.search(r"^# tests/run\.py: serial$", path.read_text(), re.M)
        jobs.append(Job(name, [sys.executable, str(ROOT / "tests" / "unittest_file.py"), str(path)], PYTHON_TIMEOUT_S,
                        build_environment(build), ROOT, parallel, is_python=True))
    return jobs


def build_with_sanitizer(name):
    """Builds the test programs of a sanitizer run. Returns (build directory, Case of a failed build or None)."""
    folder, sanitizer, suites = SANITIZERS[name]
    build = ROOT / folder
    commands = []
    if not (build / "build.ninja").exists():
        # With lines for stack traces only, and the larger one optimised less: compiling takes most of their time.
        level = 1 if name == "asan" else 2
        commands.append(["meson", "setup", str(build), str(ROOT), f"-Db_sanitize={sanitizer}", "-Db_lundef=false",
                         f"-Doptimization={level}", "-Dcpp_args=-fno-sanitize-recover=all -fno-omit-frame-pointer -g1"])
    for command in commands + [["ninja", "-C", str(build), "build.ninja"]]:
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            return build, Case("(build)", FAILED, detail=tail(result.stdout + result.stderr))
    targets = ninja_targets(build, suites)
    if targets:
        result = subprocess.run(["ninja", "-C", str(build), "-j", str(os.cpu_count()), *targets], capture_output=True,
                                text=True)
        if result.returncode != 0:
            return build, Case("(build)", FAILED, detail=tail(result.stdout + result.stderr))
    return build, None


def matching_job(job, wanted):
    """Narrows a job to a filter: by its name here, by case names inside the process. None: nothing matches."""
    if not wanted or wanted in job.name:
        return job
    if wanted.startswith(job.name + "/"):
        case = wanted[len(job.name) + 1:]
        job.environment = {**job.environment, "GTEST_FILTER": f"*{case}*", "TIDEMARK_TEST_FILTER": case}
        return job
    return None


# --- The run ----------------------------------------------------------------------------------------------------------

class Summary:
    """Collects cases of all jobs and prints as they come in."""

    def __init__(self):
        self.cases = []  # (job name, Case)
        self.lock = threading.Lock()

    def add(self, job_name, cases, seconds):
        with self.lock:
            counts = {outcome: sum(case.outcome == outcome for case in cases) for outcome in (PASSED, FAILED, SKIPPED)}
            told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count) or "nothing ran"
            print(f'{"FAIL" if counts[FAILED] else "ok":4} {job_name}: {told} ({seconds:.1f} s)')
            for case in cases:
                if case.outcome == FAILED:
                    print(f"  FAILED {job_name}/{case.name}")
                    print("    " + case.detail.rstrip().replace("\n", "\n    "))
            sys.stdout.flush()
            self.cases += [(job_name, case) for case in cases]

    def count(self, outcome):
        return sum(case.outcome == outcome for _, case in self.cases)

    def print_end(self):
        skipped = [(job, case) for job, case in self.cases if case.outcome == SKIPPED]
        if skipped:
            print("\nSkipped:")
            for job, case in skipped:
                print(f"  {job}/{case.name}: {case.detail}")
        print("\nSlowest:")
        for job, case in sorted(self.cases, key=lambda entry: -entry[1].seconds)[:10]:
            print(f"  {case.seconds:7.2f} s  {job}/{case.name}")
        failed = [(job, case) for job, case in self.cases if case.outcome == FAILED]
        if failed:
            print("\nFailed:")
            for job, case in failed:
                print(f"  {job}/{case.name}")
        if not self.cases:
            print("\nNothing matched.")
        print(f"\n{self.count(PASSED)} passed, {self.count(FAILED)} failed, {self.count(SKIPPED)} skipped", flush=True)


def run_jobs(jobs, summary):
    with tempfile.TemporaryDirectory(prefix="tidemark-tests-") as scratch:
        def run(job):
            try:
                cases, seconds = (run_python if job.is_python else run_program)(job, scratch)
            except Exception as error:  # a defect of this runner or a missing program must not look like "no tests"
                cases, seconds = [Case("(runner)", FAILED, detail=f"{type(error).__name__}: {error}")], 0.0
            summary.add(job.name, cases, seconds)

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(run, [job for job in jobs if job.parallel]))
        for job in jobs:
            if not job.parallel:
                run(job)


def main(arguments):
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        print("Usage: tests/run.py [FILTER]", file=sys.stderr)
        return 2
    wanted = arguments[0] if arguments else ""
    build = ROOT / os.environ.get("TIDEMARK_BUILD_DIR", "build")
    if not (build / "build.ninja").exists():
        print(f"tests/run.py: {build} is not built; run ./dev build, or ./dev test, which does both", file=sys.stderr)
        return 2
    summary = Summary()
    jobs = meson_jobs(build) + python_jobs(build)
    for name, (_, _, suites) in SANITIZERS.items():
        if wanted and not wanted.startswith((name, *({"fuzz"} & set(suites)))):
            continue
        if not any(set(suites_of(test)) & set(suites) for test in meson_tests(build)):
            continue
        start = time.monotonic()
        print(f"building for {name}", flush=True)
        sanitizer_build, failure = build_with_sanitizer(name)
        if failure:
            summary.add(name, [failure], time.monotonic() - start)
        else:
            jobs += meson_jobs(sanitizer_build, name, suites)
    jobs = [job for job in (matching_job(job, wanted) for job in jobs) if job]
    run_jobs(jobs, summary)
    summary.print_end()
    return 0 if summary.count(FAILED) == 0 and summary.cases else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

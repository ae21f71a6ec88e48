"""A virtual environment in the build directory with the Python package of analysis/ and what its checks need.

Made when it is not there and brought up to date when the package has changed; several runs at once wait for each other.
`python3 package_environment.py` makes it and prints where it is. Must not: touch the source tree, or be needed by
anything but tests.
"""
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(os.environ.get("TIDEMARK_SOURCE_DIR", Path(__file__).resolve().parents[2]))
BUILD = ROOT / os.environ.get("TIDEMARK_BUILD_DIR", "build")
PACKAGE = ROOT / "analysis"
ENVIRONMENT = BUILD / "analysis-venv"
PYTHON = ENVIRONMENT / "bin" / "python3"


class NoEnvironmentError(Exception):
    """It could not be made for want of a package index; the message says why."""


def fingerprint(paths):
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(paths):
        digest.update(str(path).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise NoEnvironmentError(f"{' '.join(map(str, command))} failed:\n{(done.stdout + done.stderr)[-2000:]}")


def install(arguments, stamp, wanted):
    if stamp.exists() and stamp.read_text() == wanted:
        return
    # pip builds in the folder it is given, and the source tree is not the place for that.
    source = BUILD / "analysis-source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("*.so", "__pycache__", ".*_cache"))
    run(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments(source))
    shutil.rmtree(source)
    stamp.write_text(wanted)


def ensure():
    """Returns the environment's Python. The first time takes a minute and needs a package index."""
    BUILD.mkdir(exist_ok=True)
    with open(BUILD / "analysis-venv.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not PYTHON.exists():
            try:
                run(sys.executable, "-m", "venv", ENVIRONMENT)
            except NoEnvironmentError:
                shutil.rmtree(ENVIRONMENT, ignore_errors=True)
                raise
        # What it depends on changes seldom, and needs the index; the package itself does not.
        install(lambda source: ["setuptools", "wheel", f"{source}[test]"], ENVIRONMENT / "dependencies.stamp",
                fingerprint([PACKAGE / "pyproject.toml"]))
        files = [path for pattern in ("*.py", "*.c") for path in (PACKAGE / "tidemark_analysis").glob(pattern)]
        try:
            install(lambda source: ["--no-deps", "--no-build-isolation", "--no-index", "--force-reinstall", source],
                    ENVIRONMENT / "package.stamp",
                    fingerprint([*files, PACKAGE / "setup.py", PACKAGE / "pyproject.toml"]))
        except NoEnvironmentError as error:  # needs nothing from outside: the package itself is broken
            raise RuntimeError(str(error)) from error
    return PYTHON


if __name__ == "__main__":
    try:
        print(ensure())
    except NoEnvironmentError as error:
        sys.exit(f"analysis: {error}")

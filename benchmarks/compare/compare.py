#!/usr/bin/env python3
"""Measures Throttl and other ways to ask whether a key may make a request, all in one run.

  python3 benchmarks/compare/compare.py [--repetitions N] [--seconds S] [--rows NAMES] | --list

run.sh installs and builds what this needs. Every sample is a process of its own; a repetition has
one of each row, in an order drawn anew. A sample has as many checks as take S seconds, after as
many that are not counted. What cannot be run here stands in the table as not measured.
"""

import argparse
import collections
import contextlib
import dataclasses
import datetime
import os
import pathlib
import platform
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import typing

HERE = pathlib.Path(__file__).resolve().parent
BUILD = HERE.parent.parent / "build"
INSTALLED = BUILD / "compare"
BASE = "throttl-rate"  # what the others are compared with
CALLS_MIN, CALLS_MAX = 20, 10_000_000
SAMPLE_SECONDS_MAX = 120
SERVER_SECONDS_MAX = 10


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    title: str
    language: str
    # Of the directory of the C++ programs: the words before and after the number of calls, or None
    # when they cannot be run here.
    command: typing.Callable
    missing: str
    redis: bool = False


def program(name, row, **more):
    """A row of a C++ program."""
    def command(programs):
        path = programs / name
        return ([path, row], []) if path.is_file() else None
    return {"language": "C++", "command": command, "missing": f"{name} is not built", **more}


def installed(kind, row, **more):
    """A row of what install_peers.sh puts under build/compare."""
    directory = INSTALLED / kind
    words = {
        "node": (["node", HERE / "node_peer.mjs", row], [directory]),
        "python": ([directory / "venv/bin/python", "-B", HERE / "python_peer.py", row], []),
        "cargo": ([directory / "release/governor_peer", row], []),
    }[kind]
    return {"command": lambda _: words if (directory / "installed").is_file() else None,
            "missing": f"build/compare/{kind} could not be installed", **more}


NODE, PYTHON, RUST = ({"language": name} for name in ("Node.js", "Python", "Rust"))
ROWS = [
    Row("throttl-quota", "Throttl, a quota", **program("throttl_peer", "quota")),
    Row("throttl-rate", "Throttl, a quota and a rate limit", **program("throttl_peer", "rate")),
    Row("throttl-file", "the same, in a SQLite file", **program("throttl_peer", "file")),
    Row("governor", "governor, keyed", **installed("cargo", "keyed", **RUST)),
    Row("express-rate-limit", "express-rate-limit, its memory store",
        **installed("node", "express", **NODE)),
    Row("rate-limiter-flexible", "rate-limiter-flexible, RateLimiterMemory",
        **installed("node", "flexible", **NODE)),
    Row("limits", "limits, fixed window in memory", **installed("python", "limits", **PYTHON)),
    Row("throttled-gcra", "throttled-py, GCRA in memory", **installed("python", "gcra", **PYTHON)),
    Row("throttled-bucket", "throttled-py, token bucket in memory",
        **installed("python", "token_bucket", **PYTHON)),
    Row("redis-incr", "Redis, INCR", **program("redis_peer", "incr", redis=True)),
    Row("redis-window", "Redis, fixed window in a script",
        **program("redis_peer", "window", redis=True)),
    Row("sqlite-normal", "SQLite transaction, synchronous=NORMAL",
        **program("sqlite_peer", "normal")),
    Row("sqlite-full", "SQLite transaction, synchronous=FULL", **program("sqlite_peer", "full")),
]


# --- Measuring


def redis_program():
    """The server, whose program in Debian's redis-tools goes by the name of a tool."""
    return shutil.which("redis-server") or shutil.which("redis-check-rdb")


def is_listening(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def redis_server():
    """A Redis server of its own on 127.0.0.1, which keeps nothing; yields its port."""
    with tempfile.TemporaryDirectory() as directory:
        server_path = pathlib.Path(directory, "redis-server")
        server_path.symlink_to(redis_program())
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        # setpriv: the server ends with this process, even when that is killed.
        command = ["setpriv", "--pdeathsig", "KILL", server_path, "--bind", "127.0.0.1", "--port",
                   str(port), "--save", "", "--appendonly", "no", "--dir", directory]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            try:
                end = time.monotonic() + SERVER_SECONDS_MAX
                while not is_listening(port):
                    if server.poll() is not None or time.monotonic() > end:
                        sys.exit("the Redis server did not start")
                    time.sleep(0.01)
                yield port
            finally:
                server.terminate()


def why_missing(row, programs):
    """Why a row cannot be measured here, or None."""
    if row.command(programs) is None:
        return row.missing
    if row.redis and redis_program() is None:
        return "there is no Redis server"
    return None


def measure(row, calls, programs):
    """The time of one check in ns, from one process. What it cannot vouch for ends the run."""
    with redis_server() if row.redis else contextlib.nullcontext() as port:
        before, after = row.command(programs)
        words = [*before, str(calls), *after] + ([str(port)] if row.redis else [])
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=SAMPLE_SECONDS_MAX, check=False)
        except subprocess.TimeoutExpired:
            sys.exit(f"{row.name}: not done after {SAMPLE_SECONDS_MAX} s")
    if done.returncode != 0:
        sys.exit(f"{row.name}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return float(done.stdout)


def calls_for(row, seconds, programs):
    """How many checks take some `seconds`."""
    calls = CALLS_MIN
    while True:
        wanted = int(seconds * 1e9 / measure(row, calls, programs))
        wanted = min(max(wanted, CALLS_MIN), CALLS_MAX)
        if wanted <= calls * 2:
            return wanted
        calls = min(wanted, calls * 20)  # the first calls are slower than those that follow


def run(rows, repetitions, seconds, programs):
    """The samples of each row, by its name."""
    calls = {row.name: calls_for(row, seconds, programs) for row in rows}
    samples = collections.defaultdict(list)
    for repetition in range(repetitions):
        order = random.Random(repetition).sample(rows, len(rows))
        for row in order:
            samples[row.name].append(measure(row, calls[row.name], programs))
        print(f"repetition {repetition + 1} of {repetitions}", file=sys.stderr)
    return samples


# --- Telling


def duration_text(ns):
    for unit, size in (("ms", 1e6), ("us", 1e3), ("ns", 1)):
        if ns >= size:
            break
    value = ns / size
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f} {unit}"


def ratio_text(ratio):
    return f"{ratio:.0f}" if ratio >= 9.95 else f"{ratio:.1f}" if ratio >= 0.995 else f"{ratio:.2f}"


def table(rows, samples, missing):
    lines = ["| one check | from | median | fastest | of Throttl's |",
             "| --- | --- | --- | --- | --- |"]
    base = statistics.median(samples[BASE]) if samples.get(BASE) else None
    for row in rows:
        if row.name in missing:
            cells = (row.title, row.language, f"not measured: {missing[row.name]}", "", "")
            lines.append(f"| {' | '.join(cells)} |")
            continue
        median = statistics.median(samples[row.name])
        noise = statistics.stdev(samples[row.name]) / statistics.mean(samples[row.name])
        ratio = "" if base is None else ratio_text(median / base)
        cells = (row.title, row.language, f"{duration_text(median)} ({noise:.0%})",
                 duration_text(min(samples[row.name])), ratio)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def version_of(*command):
    """The first version number that a command prints, or "none"."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              check=False)
    except OSError:
        return "none"
    found = re.search(r"\d+\.[\d.]+", done.stdout)
    return found.group(0) if found else "none"


def machine():
    """One paragraph: date, machine, load, versions."""
    info = pathlib.Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", info.read_text() if info.exists() else "")
    python = INSTALLED / "python/venv/bin/python"
    versions = {
        "g++": version_of("g++", "-dumpfullversion"), "Node.js": version_of("node", "--version"),
        "Python": version_of(python, "--version"), "rustc": version_of("rustc", "--version"),
        "SQLite": version_of("pkg-config", "--modversion", "sqlite3"),
        "Redis": version_of("redis-cli", "--version"),
    }
    return (f"{datetime.date.today()}, {os.cpu_count()} cores of"
            f" {models[0] if models else platform.machine()}, Linux {platform.release()}, load"
            f" {os.getloadavg()[0]:.2f} before; "
            + ", ".join(f"{name} {version}" for name, version in versions.items()))


# --- The command line


def rows_named(text):
    names = text.split(",")
    unknown = set(names) - {row.name for row in ROWS}
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: see --list")
    return [row for row in ROWS if row.name in names]


def number(kind, least, most):
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not from {least} to {most}")
        return value
    return parse


def parsed(arguments):
    parser = argparse.ArgumentParser(prog="run.sh", allow_abbrev=False)
    parser.add_argument("--repetitions", type=number(int, 2, 1_000), default=15, metavar="N",
                        help="samples of each row, 15 unless said otherwise")
    parser.add_argument("--seconds", type=number(float, 0.0001, 10), default=0.25, metavar="S",
                        help="of the counted checks of a sample, 0.25 unless said otherwise")
    parser.add_argument("--rows", type=rows_named, default=ROWS, metavar="NAMES",
                        help="only these, with commas between them")
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    parser.add_argument("--programs", type=pathlib.Path, metavar="DIRECTORY",
                        default=BUILD / "release/benchmarks/compare", help="of the C++ programs")
    parser.add_argument("--parse-only", action="store_true", help="check the arguments")
    return parser.parse_args(arguments)


def main(arguments):
    options = parsed(arguments)
    if options.parse_only:
        return 0
    if options.list:
        print("\n".join(f"{row.name:23}{row.language}: {row.title}" for row in ROWS))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    about = machine()
    reasons = {row.name: why_missing(row, options.programs) for row in options.rows}
    missing = {name: reason for name, reason in reasons.items() if reason is not None}
    measured = [row for row in options.rows if row.name not in missing]
    samples = run(measured, options.repetitions, options.seconds, options.programs)
    print(f"{about}\nMedians of {options.repetitions} samples of {options.seconds} s; in brackets"
          f" the coefficient of variation.\n\n{table(options.rows, samples, missing)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

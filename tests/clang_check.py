#!/usr/bin/env python3
"""Checks every C++ file with clang: warnings as errors, thread safety, clang-tidy, clang-format.

  /usr/bin/python3 tests/clang_check.py BUILD_DIRECTORY [FILE...]

g++ builds what runs; this shows that clang takes it as well. Every header is compiled by itself.
A file is checked again only when it, a header of this tree that it includes, a command or a tool
has changed. As with ccache, that is remembered in the user's cache directory, for all copies of the
tree; THROTTL_CLANG_CACHE names another directory. Ends with the number of files and failures.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("include", "src", "tests", "examples", "benchmarks")
WARNINGS = ("-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Werror"
            " -Wthread-safety -Wthread-safety-beta").split()
# Headers, and programs that are built elsewhere, have no entry in compile_commands.json.
DEFAULT_FLAGS = ["-std=c++20", f"-I{ROOT}", f"-I{ROOT}/include"]


def run(command):
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)


def flags_of_sources(build):
    """For each source, its macros, include folders and standard, as g++ gets them."""
    flags = {}
    for entry in json.loads((build / "compile_commands.json").read_text(encoding="utf-8")):
        words = shlex.split(entry["command"])
        kept = []
        for i, word in enumerate(words):
            if word.startswith(("-I", "-D", "-std=")):
                kept.append(word)
            elif word == "-isystem":
                kept += words[i:i + 2]
        flags[os.path.relpath(entry["file"], ROOT)] = kept
    return flags


def cache_directory(build):
    """Where checks are remembered; in the build directory for a user without a home."""
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path(os.path.expanduser("~"), ".cache")
    named = os.environ.get("THROTTL_CLANG_CACHE") or pathlib.Path(home, "throttl", "clang_check")
    for path in (pathlib.Path(named), build / "clang_check"):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(path, os.W_OK):
            return path
    raise OSError(f"{build} is not writable")


class Checker:
    def __init__(self, build):
        self.cache = cache_directory(build)
        self.flags = flags_of_sources(build)
        tools = [run([tool, "--version"]).stdout for tool in ("clang++", "clang-tidy")]
        settings = [(ROOT / name).read_text() for name in (".clang-tidy", "tests/clang_check.py")]
        self.base = "\n".join(tools + settings + WARNINGS)

    def digest(self, path, flags, seen):
        # The same in every copy of the tree.
        text = [self.base, path, *(flag.replace(str(ROOT), "ROOT") for flag in flags)]
        text += [f"{p} {hashlib.sha256((ROOT / p).read_bytes()).hexdigest()}"
                 for p in sorted(seen) if (ROOT / p).is_file()]
        return hashlib.sha256("\n".join(text).encode()).hexdigest()

    def check(self, path):
        """What clang has to say about one file; empty when it is content."""
        flags = self.flags.get(path, DEFAULT_FLAGS)
        stamp = self.cache / path.replace("/", "-")
        if stamp.exists():
            digest, *seen = stamp.read_text(encoding="utf-8").split("\n")
            if digest == self.digest(path, flags, seen):
                return ""
        own = f"{stamp.name}.{os.getpid()}"  # another copy may be checked at the same time
        depends = self.cache / f"{own}.d"
        language = ["-x", "c++", "-Wno-pragma-once-outside-header"]
        syntax = run(["clang++", *WARNINGS, *flags, *language, "-fsyntax-only", "-MMD", "-MF",
                      str(depends), path])
        if syntax.returncode != 0:
            return syntax.stdout
        if path.startswith("src/") and path.endswith(".cc"):
            tidy = run(["clang-tidy", "--quiet", path, "--", *WARNINGS, *flags, *language])
            if tidy.returncode != 0:
                return tidy.stdout
        words = depends.read_text().replace("\\\n", " ").split()[1:] if depends.exists() else [path]
        seen = sorted({os.path.relpath(ROOT / word, ROOT) for word in words})
        depends.unlink(missing_ok=True)
        written = self.cache / own
        written.write_text("\n".join([self.digest(path, flags, seen), *seen]), encoding="utf-8")
        written.replace(stamp)
        return ""


def main(arguments):
    build = pathlib.Path(arguments[0]).resolve()
    paths = arguments[1:] or sorted(
        str(p.relative_to(ROOT)) for folder in FOLDERS for p in (ROOT / folder).rglob("*")
        if p.suffix in (".h", ".cc"))
    failures = 0
    form = run(["clang-format", "--dry-run", "-Werror", *paths])
    if form.returncode != 0:
        failures += 1
        print(form.stdout)
    checker = Checker(build)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, output in zip(paths, pool.map(checker.check, paths)):
            if output:
                failures += 1
                print(f"--- {path}\n{output}")
    print(f"{len(paths)} files, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

#!/usr/bin/env python3
"""Checks the form of the tree: its layout, who includes whom, and the rules that no compiler knows.

  /usr/bin/python3 tests/tidy_test.py [ROOT]

Prints one line for each violation, "path:line: rule: what is wrong", and fails when there is one.
The rules stand in RULES, at the end; tests/tidy_selftest.py plants a violation of each.
"""

import ast
import collections
import os
import pathlib
import re
import sys

COLUMNS_MAX = 100
FUNCTION_LINES_MAX = 70

TOP_LEVEL = set(
    "CMakeLists.txt include src bindings examples tests benchmarks cmake LICENSE README.md"
    " .ci .clang-format .clang-tidy .gitignore .github".split())
IGNORED = {".git", "build", "__pycache__", "compile_commands.json"}
CODE_ENDINGS = (".h", ".cc", ".py", ".sh", ".cmake", ".sql", "CMakeLists.txt")
REPEATABLE_NAMES = {"README.md", "CMakeLists.txt", "run.sh", "__init__.py", "requirements.txt",
                    "package.json", "package-lock.json"}
NO_README = (".ci", ".github")

# Which folders of src the files of a folder may include, beside their own and the public headers.
PURE = ("base",)
STORE = ("base", "calendar", "settle", "store")
ENGINE = ("base", "calendar", "key", "policy", "settle", "lease", "anomaly", "export")
BELOW_OPEN = ENGINE + ("engine", "store", "store/memory", "store/sqlite", "http")
MAY_INCLUDE = {
    "base": (), "calendar": PURE, "key": PURE, "policy": PURE, "settle": PURE, "anomaly": PURE,
    "lease": PURE, "http": PURE, "export": PURE, "notify": ("base", "http"),
    "store": STORE, "store/memory": STORE, "store/sqlite": STORE,
    "engine": ENGINE, "open": BELOW_OPEN, "capi": (), "server": (), "cli": (),
}

# Third-party headers, and the only folders of src that may include them.
THIRD_PARTY = (
    (r"absl/", tuple(MAY_INCLUDE)),
    (r"openssl/", ("base", "notify")),
    (r"(xxhash|zlib|utf8)\.h$|sys/file\.h$", ("base",)),
    (r"pthread\.h$", ("base", "capi")),
    (r"sys/mman\.h$", ("lease",)),
    (r"sqlite3\.h$", ("store/sqlite",)),
    (r"nlohmann/", ("http", "export", "notify", "capi", "server", "cli")),
    (r"curl/", ("notify",)),
    (r"CLI/", ("cli",)),
    (r"boost/", ("server",)),
)
PUBLIC_THIRD_PARTY = re.compile(r"absl/(status|time)/")
C_HEADERS = set(
    "assert ctype dirent emmintrin endian errno fcntl inttypes limits malloc math poll sched signal"
    " stdarg stddef stdint stdio stdlib string strings time unistd".split())
C_FOLDERS = ("sys/", "linux/", "netinet/", "arpa/", "net/")

C_HEADER = "include/throttl.h"

Violation = collections.namedtuple("Violation", "path line rule message")


class Source:
    """One text file. `code` is its text with comments and the insides of literals blanked."""

    def __init__(self, root, path):
        self.path = path
        self.text = (root / path).read_text(encoding="utf-8", errors="replace")
        self.lines = self.text.split("\n")
        self._code = None

    @property
    def name(self):
        return os.path.basename(self.path)

    @property
    def is_cpp(self):
        return self.path.endswith((".h", ".cc"))

    @property
    def code(self):
        if self._code is None:
            self._code = blank(self.text, literals=True)
        return self._code

    def line_of(self, offset):
        return self.text.count("\n", 0, offset) + 1


class Tree:
    """All files under a root but for what .gitignore leaves out."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.files, self.folders = [], []
        for folder, folders, names in os.walk(self.root):
            folders[:] = sorted(f for f in folders if f not in IGNORED)
            place = os.path.relpath(folder, self.root)
            if place != "." and names:
                self.folders.append(place)
            for name in sorted(set(names) - IGNORED):
                self.files.append(Source(self.root, os.path.normpath(os.path.join(place, name))))
        self.by_path = {source.path: source for source in self.files}

    def cpp(self, *tops):
        return [s for s in self.files if s.is_cpp and (not tops or s.path.split("/")[0] in tops)]


def blank(text, literals):
    """Replaces comments, and the insides of literals when asked to, by spaces; keeps the lines."""
    pattern = re.compile(
        r'//[^\n]*|/\*.*?\*/|R"(?P<d>[^()\\ ]{0,16})\(.*?\)(?P=d)"'
        r'|"(?:\\.|[^"\\\n])*"' + r"|(?<![0-9A-Fa-f])'(?:\\.|[^'\\\n])*'", re.S)

    def replace(match):
        found = match.group(0)
        if found.startswith(("//", "/*")):
            return re.sub(r"[^\n]", " ", found)
        if not literals:
            return found
        quote = '"' if '"' in (found[0], found[-1]) else "'"
        return quote + re.sub(r"[^\n]", " ", found[1:-1]) + quote

    return pattern.sub(replace, text)


def at(source, line, message):
    return (source.path, line, message)


def matches(source, text, pattern, message):
    """A violation for each match of `pattern` in `text`, with the match in place of {}."""
    return [at(source, source.line_of(m.start()), message.format(m.group(0).strip()))
            for m in re.finditer(pattern, text)]


# --- Layout


def check_top_level(tree):
    found = {p.name for p in tree.root.iterdir()} - IGNORED
    for name in sorted(found - TOP_LEVEL):
        yield (name, 0, "does not belong at the top level")
    for name in sorted(TOP_LEVEL - found):
        yield (name, 0, "is missing at the top level")


def check_no_docs(tree):
    for source in tree.files:
        if "/docs/" in source.path or source.name == "CMakePresets.json":
            yield at(source, 0, "documentation is the READMEs, presets are cmake/*.cmake")


def check_folder_readme(tree):
    for folder in tree.folders:
        if not folder.startswith(NO_README) and f"{folder}/README.md" not in tree.by_path:
            yield (folder, 0, "has no README.md")


def check_unique_names(tree):
    places = collections.defaultdict(list)
    for source in tree.files:
        if source.name not in REPEATABLE_NAMES:
            places[source.name].append(source.path)
    for paths in places.values():
        if len(paths) > 1:
            yield (paths[1], 0, f"has the name of {paths[0]}")


def check_readme_names(tree):
    names = {s.name for s in tree.files}
    for source in tree.files:
        if source.name != "README.md":
            continue
        name = r"`(?:[\w./-]*/)?([\w-]+\.(?:h|cc|py|sh|cmake|sql))`"
        for match in re.finditer(name, source.text):
            if match.group(1) not in names:
                yield at(source, source.line_of(match.start()), f"{match.group(1)} does not exist")


# --- Includes


def folder_of(path):
    """The folder of src that a path lies in, by the table: "store/sqlite", "server"."""
    parts = path.split("/")[1:-1]
    return "/".join(parts[:2] if parts and parts[0] == "store" else parts[:1])


def includes(source):
    """(line, quoted or not, header) of each include."""
    for number, line in enumerate(source.lines, 1):
        if match := re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line):
            yield number, match.group(1) == '"', match.group(2)


def is_system(header):
    stem, dot, ending = header.partition(".")
    return not dot and "/" not in header or ending == "h" and (
        stem in C_HEADERS or header.startswith(C_FOLDERS))


def wrong_include_in_src(folder, header, quoted):
    if header.startswith("src/"):
        target = folder_of(header)
        if target == folder or target in MAY_INCLUDE.get(folder, ()):
            return None
        return f"src/{folder} may not include src/{target}"
    if header.startswith("throttl/") or header == "throttl.h":
        return None if quoted else "public headers are included in quotes within src"
    for pattern, folders in THIRD_PARTY:
        if re.match(pattern, header):
            return None if folder in folders else f"src/{folder} may not include {header}"
    if is_system(header):
        return None
    return f"{header} is in no row of the include table"


def check_src_includes(tree):
    for source in tree.cpp("src"):
        folder = folder_of(source.path)
        if folder not in MAY_INCLUDE:
            yield at(source, 0, f"src/{folder} is in no row of the include table")
            continue
        for line, quoted, header in includes(source):
            if wrong := wrong_include_in_src(folder, header, quoted):
                yield at(source, line, wrong)


def check_public_includes(tree):
    for source in tree.cpp("include"):
        for line, _, header in includes(source):
            public = header.startswith("throttl/") and f"include/{header}" in tree.by_path
            if not public and not PUBLIC_THIRD_PARTY.match(header) and not is_system(header):
                yield at(source, line, f"a public header may not include {header}")


def check_example_includes(tree):
    own = {s.name for s in tree.cpp("examples")}
    for source in tree.cpp("examples"):
        for line, _, header in includes(source):
            allowed = header.startswith(("throttl/", "absl/", "nlohmann/")) or header in own
            if not allowed and header != "throttl.h" and not is_system(header):
                yield at(source, line, f"an example may not include {header}")


# --- Files


def check_header_guard(tree):
    for source in tree.cpp():
        if not source.path.endswith(".h"):
            continue
        place = re.sub(r"^(include/)?(throttl/)?", "", source.path)
        guard = "THROTTL_" + re.sub(r"[^A-Z0-9]", "_", place.upper()) + "_"
        if source.path == C_HEADER:
            guard = "THROTTL_H_"
        wanted = f"#ifndef {guard}\n#define {guard}\n"
        ends = f"#endif /* {guard} */\n" if source.path == C_HEADER else f"#endif  // {guard}\n"
        if wanted not in source.text or not source.text.endswith(ends):
            yield at(source, 1, f"its guard shall be {guard}")


def check_banner(tree):
    for source in tree.cpp():
        if not source.path.endswith(".h"):
            continue
        banner = source.text.split("#", 1)[0]
        first = re.split(r"\n//\n|\n\n|$(?!\n)", banner, 1)[0]
        # throttl.h is C of 1999 too, and old compilers want its other comments.
        begin = r"/\*" if source.path == C_HEADER else "//"
        first = re.split(r"\n \*\n|\*/", banner, 1)[0] if source.path == C_HEADER else first
        if not re.match(begin + r" (?!Thread safety)[A-Z].*[.:]$", first, re.S):
            yield at(source, 1, "does not begin with a sentence that says what it is")
        if "Thread safety: " not in banner:
            yield at(source, 1, 'its banner says nothing of "Thread safety:"')


def check_columns(tree):
    for source in tree.files:
        if not source.path.endswith(CODE_ENDINGS):
            continue
        for number, line in enumerate(source.lines, 1):
            if len(line) > COLUMNS_MAX:
                yield at(source, number, f"{len(line)} columns, at most {COLUMNS_MAX}")


# What stands before the brace of a function: its parameters, and what may follow them, or the
# initialisers of a constructor.
FUNCTION_HEAD = re.compile(
    r"\)\s*(?:(?:const|noexcept|override|final|mutable|try|&&?)\s*|->[\w:<>,&*\s]+)*$"
    r"|\)\s*:\s.*\}\s*$", re.S)


def functions(code):
    """(offset of the head, of the closing brace) of each outermost function or lambda."""
    stack, head = [], 0
    for match in re.finditer(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*|[{};]", code, re.M):
        token = match.group(0)
        if token == "{":
            text = code[head:match.start()]
            within = any(kind == "function" for kind, _ in stack)
            kind = "function" if not within and FUNCTION_HEAD.search(text) else "other"
            stack.append((kind, head + len(text) - len(text.lstrip())))
        elif token == "}" and stack:
            kind, start = stack.pop()
            if kind == "function":
                yield start, match.start()
            elif re.match(r"\s*[,{]", code[match.end():match.end() + 80]):
                head = start  # an initialiser in braces: the head of the function goes on
                continue
        head = match.end()


def check_function_length(tree):
    for source in tree.cpp():
        for start, end in functions(source.code):
            first, last = source.line_of(start), source.line_of(end)
            if last - first >= FUNCTION_LINES_MAX:
                yield at(source, first, f"a function of {last - first + 1} lines, at most"
                                        f" {FUNCTION_LINES_MAX}")
    for source in tree.files:
        if not source.path.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(source.text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = node.end_lineno - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    yield at(source, node.lineno, f"a function of {lines} lines")


def check_later(tree):
    for source in tree.files:
        yield from matches(source, source.text, r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b",
                           "{}: a change is finished, or an issue")


def check_machine_path(tree):
    for source in tree.files:
        yield from matches(source, source.text,
                           r"(?<![\w.}\])*])/(home|ro" r"ot|Users|wo" r"rk|private|mnt)/",
                           "{} is a path of one machine")


# --- Manners of an embedded library


def library(tree):
    return [s for s in tree.cpp("src", "include") if folder_of(s.path) not in ("server", "cli")]


def check_absl_mutex(tree):
    for source in tree.cpp():
        yield from matches(source, source.code, r"\babsl::(Mutex|CondVar|Notification)\w*",
                           "{}: use src/base/mutex.h")
        yield from matches(source, source.text, r'#include ["<]absl/synchronization/',
                           "{}: use src/base/mutex.h")


def check_printing(tree):
    for source in library(tree):
        yield from matches(
            source, source.code,
            r"\bstd::(cout|cerr|clog|print|println)\b|(?<![\w.>])(std::)?v?f?printf\s*\("
            r"|(?<![\w.>])(puts|putchar|fputs|perror|syslog)\s*\(", "{}: a library never prints")


def check_ending(tree):
    for source in library(tree):
        yield from matches(
            source, source.code,
            r"(?<![\w.>])(std::)?(exit|_exit|_Exit|quick_exit|abort|terminate|atexit)\s*\(",
            "{}: a library never ends the process")


def check_process_state(tree):
    for source in library(tree):
        yield from matches(
            source, source.code,
            r"\b(secure_)?getenv\b|\b(setenv|putenv|unsetenv|setlocale|tzset|umask|chdir)\s*\("
            r"|(?<![\w.>])(signal|sigaction|srand|rand)\s*\(|\benviron\b",
            "{}: a library leaves the environment, locale and signals to its host")


# --- SQL

SQL = (r"SELECT\s|INSERT\s+(OR\s+\w+\s+)?INTO\s|REPLACE\s+INTO\s|UPDATE\s+\w+\s+SET\s"
       r"|DELETE\s+FROM\s")
SQL_TAKERS = (r"\b(sqlite3_exec|sqlite3_prepare\w*|Run|RunScript|ReadNumber|ReadText"
              r"|SqliteStatement)(?:\s+\w+)?")
SQL_BUILDERS = (r"\b(StrCat|StrAppend|StrFormat|StrJoin|Substitute|append|format|snprintf)\b"
                r"|\s\+=?\s")


def check_sql_built(tree):
    """A statement that holds SQL and also puts text together: values are bound, never pasted in."""
    for source in tree.cpp("src"):
        text = blank(source.text, literals=False)
        for match in re.finditer(r'(?:R"\w*~?\w*~?\(|")\s*(?:' + SQL + ")", text):
            begin = max(source.code.rfind(c, 0, match.start()) for c in ";{}") + 1
            end = source.code.find(";", match.start())
            if built := re.search(SQL_BUILDERS, source.code[begin:end]):
                yield at(source, source.line_of(match.start()),
                         f"SQL is put together with {built.group(0).strip()}: bind the value")


def arguments_of(code, opened):
    """The text between the parenthesis at `opened` and its partner."""
    depth = 0
    for offset in range(opened, len(code)):
        depth += {"(": 1, ")": -1}.get(code[offset], 0)
        if depth == 0:
            return code[opened + 1:offset]
    return ""


def check_sql_constant(tree):
    """SQL is a `const char*` everywhere; a std::string could only come in through one of these."""
    for source in tree.cpp("src"):
        for match in re.finditer(SQL_TAKERS + r"\s*\(", source.code):
            arguments = arguments_of(source.code, match.end() - 1)
            if '("PRAGMA ' in source.text[match.end():match.end() + len(arguments)]:
                continue  # a PRAGMA takes no parameters: its numbers can only be written into it
            if re.search(r"(\.|->)(c_str|data)\(\)|\bStr(Cat|Format|Join)\b", arguments):
                yield at(source, source.line_of(match.start()),
                         f"{match.group(1)} takes SQL that is a constant")


def check_sql_place(tree):
    for source in tree.cpp("src"):
        if folder_of(source.path) == "store/sqlite":
            continue
        text = blank(source.text, literals=False)
        yield from matches(source, text, r'"\s*(?:' + SQL + ")", "{}: SQL outside of its store")


# --- Things said once


def check_version_once(tree):
    top = tree.by_path.get("CMakeLists.txt")
    found = re.search(r"project\(throttl VERSION (\d+\.\d+\.\d+)", top.text) if top else None
    if not found:
        yield ("CMakeLists.txt", 0, "names no version in project()")
        return
    version = re.compile(r"(?<![\d.])" + re.escape(found.group(1)) + r"(?!\.?\d)")
    for source in tree.files:
        if source.name in ("package-lock.json", "Cargo.lock"):
            continue  # the versions of others
        hits = list(version.finditer(source.text))
        for match in hits[1 if source is top else 0:]:
            yield at(source, source.line_of(match.start()), "repeats the version of CMakeLists.txt")


def check_readme_example(tree):
    readme = tree.by_path.get("README.md")
    block = re.compile(r"^```cpp\n(.*?)^```$", re.S | re.M)
    region = re.compile(r"^ *// \[README\]\n(.*?)^ *// \[/README\]\n", re.S | re.M)
    blocks = {b.group(1): b.start() for b in block.finditer(readme.text if readme else "")}
    regions = {r.group(1): source for source in tree.files if source.name.endswith(".cc")
               and source.path.startswith("examples/") for r in region.finditer(source.text)}
    if not blocks or "examples/readme.cc" not in {source.path for source in regions.values()}:
        yield ("examples/readme.cc", 0, "its [README] region, or README.md's C++ block, is missing")
    for text in blocks.keys() - regions.keys():
        yield at(readme, readme.line_of(blocks[text]),
                 "its C++ block is not the [README] region of an example")
    for text in regions.keys() - blocks.keys():
        yield at(regions[text], 0, "its [README] region is not in README.md")


def check_readme_commands(tree):
    readme = tree.by_path.get("README.md")
    for block in re.finditer(r"^```sh\n(.*?)^```$", readme.text if readme else "", re.S | re.M):
        for path in re.finditer(r"(?<![\w/-])(examples|tests|cmake|src|benchmarks)/[\w./-]+",
                                block.group(1)):
            if path.group(0) not in tree.by_path:
                yield at(readme, readme.line_of(block.start()), f"{path.group(0)} does not exist")


RULES = {
    "top-level": check_top_level,
    "no-docs": check_no_docs,
    "folder-readme": check_folder_readme,
    "unique-names": check_unique_names,
    "readme-names": check_readme_names,
    "src-includes": check_src_includes,
    "public-includes": check_public_includes,
    "example-includes": check_example_includes,
    "header-guard": check_header_guard,
    "banner": check_banner,
    "columns": check_columns,
    "function-length": check_function_length,
    "later": check_later,
    "machine-path": check_machine_path,
    "absl-mutex": check_absl_mutex,
    "printing": check_printing,
    "ending": check_ending,
    "process-state": check_process_state,
    "sql-built": check_sql_built,
    "sql-constant": check_sql_constant,
    "sql-place": check_sql_place,
    "version-once": check_version_once,
    "readme-example": check_readme_example,
    "readme-commands": check_readme_commands,
}


def violations(root):
    tree = Tree(root)
    return [Violation(path, line, rule, message)
            for rule, check in RULES.items() for path, line, message in check(tree)]


def main(arguments):
    root = arguments[0] if arguments else pathlib.Path(__file__).resolve().parent.parent
    found = violations(root)
    for v in found:
        print(f"{v.path}:{v.line}: {v.rule}: {v.message}")
    print(f"{len(RULES)} rules, {len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

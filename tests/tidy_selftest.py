#!/usr/bin/env python3
"""Tests tidy_test.py: a small clean tree passes, and each planted violation is found by its rule.

  /usr/bin/python3 tests/tidy_selftest.py
"""

import pathlib
import sys
import tempfile

import tidy_test

VERSION = "1.2.3"
EXAMPLE = 'auto engine = throttl::Engine::Open("throttl.db");\n'


def header(guard, body="int Count();", includes=""):
    return (f"// A Thing counts.\n//\n// Thread safety: a value.\n#ifndef {guard}\n"
            f"#define {guard}\n{includes}\n{body}\n\n#endif  // {guard}\n")


def function(lines):
    return "int Count() {\n" + "  ++count;\n" * (lines - 2) + "}\n"


CLEAN = {
    "CMakeLists.txt": f"project(throttl VERSION {VERSION})\n",
    "README.md": f"# Throttl\n\n```cpp\n{EXAMPLE}```\n\n```sh\nbash tests/run.sh\n```\n",
    "LICENSE": "MIT\n", ".clang-format": "", ".clang-tidy": "", ".gitignore": "/build/\n",
    ".ci/run": "", ".github/workflows/ci.yml": "",
    "bindings/README.md": "", "benchmarks/README.md": "", "cmake/README.md": "",
    "examples/README.md": "`readme.cc`\n",
    "examples/readme.cc": f"int main() {{\n  // [README]\n{EXAMPLE}  // [/README]\n}}\n",
    "include/README.md": "", "include/throttl/README.md": "",
    "include/throttl/plan.h": header("THROTTL_PLAN_H_", includes='#include "absl/time/time.h"\n'),
    "src/README.md": "", "src/base/README.md": "", "src/key/README.md": "",
    "src/engine/README.md": "", "src/store/README.md": "", "src/store/memory/README.md": "",
    "src/store/sqlite/README.md": "",
    "src/base/count.h": header("THROTTL_SRC_BASE_COUNT_H_"),
    "src/key/digest.cc": '#include "src/base/count.h"\n\n#include <unistd.h>\n\n#include <vector>\n'
                         '\n#include "throttl/plan.h"\n\n' + function(70),
    "src/store/sqlite/rows.cc":
        '#include <sqlite3.h>\n\nnamespace {\n\nvoid Read(Db& db, const std::string& id) {\n'
        '  // A comment may say SELECT and exit(1) + 2.\n'
        '  SqliteStatement read(db, "SELECT name FROM plan " "WHERE id = ?");\n'
        '  read.Bind(id.c_str());\n  sqlite3_exec(db, kPragmas, nullptr, nullptr, nullptr);\n'
        '  log_.abort(absl::StrCat("INSERT", id));\n}\n\n}  // namespace\n',
    "tests/README.md": "", "tests/run.sh": "",
    "tests/package-lock.json": f'{{"version": "{VERSION}"}}\n',
    "benchmarks/package-lock.json": "{}\n", "benchmarks/Cargo.lock": f'version = "{VERSION}"\n',
}

# rule: what each plant writes (None: removes). A rule with several halves has a plant for each.
PLANTS = {
    "top-level": [{"notes.txt": ""}, {"LICENSE": None}],
    "no-docs": [{"src/docs/README.md": ""}, {"src/base/CMakePresets.json": "{}"}],
    "folder-readme": [{"src/base/README.md": None}],
    "unique-names": [{"src/key/count.h": header("THROTTL_SRC_KEY_COUNT_H_")}],
    "readme-names": [{"src/base/README.md": "`gone.h` counts.\n"}],
    "src-includes": [
        {"src/base/a.cc": '#include "src/key/digest.h"\n'},
        {"src/key/a.cc": '#include "src/engine/impl.h"\n'},
        {"src/engine/a.cc": '#include "src/store/sqlite/rows.h"\n'},
        {"src/store/memory/a.cc": '#include "src/store/sqlite/rows.h"\n'},
        {"src/store/sqlite/a.cc": '#include "src/key/digest.h"\n'},
        {"src/engine/a.cc": "#include <sqlite3.h>\n"},
        {"src/key/a.cc": "#include <zlib.h>\n"},
        {"src/key/a.cc": "#include <openssl/evp.h>\n"},
        {"src/key/a.cc": '#include "digest.h"\n'},
        {"src/key/a.cc": "#include <throttl/plan.h>\n"},
        {"src/key/a.cc": "#include <fmt/core.h>\n"},
        {"src/misc/README.md": "", "src/misc/a.cc": ""},
    ],
    "public-includes": [
        {"include/throttl/a.h": header("THROTTL_A_H_", includes='#include "src/base/count.h"\n')},
        {"include/throttl/a.h": header("THROTTL_A_H_", includes="#include <sqlite3.h>\n")},
        {"include/throttl/a.h": header("THROTTL_A_H_",
                                       includes='#include "absl/strings/str_cat.h"\n')},
        {"include/throttl/a.h": header("THROTTL_A_H_", includes='#include "throttl/gone.h"\n')},
    ],
    "example-includes": [{"examples/a.cc": '#include "src/base/count.h"\n'}],
    "header-guard": [
        {"src/base/a.h": header("THROTTL_BASE_A_H_")},
        {"src/base/a.h": "// A thing.\n//\n// Thread safety: a value.\n#pragma once\n"},
    ],
    "banner": [
        {"src/base/a.h": header("THROTTL_SRC_BASE_A_H_").replace("// A Thing counts.\n//\n", "")},
        {"src/base/a.h": header("THROTTL_SRC_BASE_A_H_").replace("Thread safety", "Threads")},
    ],
    "columns": [{"src/base/a.cc": "//" + 99 * "x" + "\n"}, {"tests/a.py": "#" + 100 * "x" + "\n"}],
    "function-length": [
        {"src/base/a.cc": function(71)},
        {"src/base/a.cc": "namespace a {\nclass B {\n  C c = {};\n" + function(71) + "};\n}\n"},
        {"src/base/a.cc": "B::B(int a) : a_{a}, b_{1} {\n" + "  ++a_;\n" * 69 + "}\n"},
        {"tests/a.cc": 'TEST_CASE("counts {") {\n' + "  if (a) {\n  }\n" * 35 + "}\n"},
        {"tests/a.py": "def count():\n" + "  a = 1\n" * 70},
    ],
    "later": [{"src/base/a.cc": "// TO" + "DO: count\n"}, {"src/README.md": "FIX" + "ME\n"}],
    "machine-path": [{"tests/a.sh": "cd /ho" + "me/me/throttl\n"},
                     {"src/README.md": "See /ro" + "ot/notes.\n"}],
    "absl-mutex": [{"src/base/a.cc": "absl::Mutex mutex;\n"},
                   {"tests/a.cc": '#include "absl/synchronization/notification.h"\n'}],
    "printing": [{"src/base/a.cc": 'void A() { std::printf("a"); }\n'},
                 {"src/base/a.cc": 'void A() { std::cerr << "a"; }\n'},
                 {"src/base/a.cc": 'void A() { fprintf(stderr, "a"); }\n'}],
    "ending": [{"src/base/a.cc": f"void A() {{ {call}; }}\n"}
               for call in ("exit(1)", "std::abort()", "_exit(1)", "std::terminate()")],
    "process-state": [{"src/base/a.cc": f"void A() {{ {call}; }}\n"}
                      for call in ('std::getenv("A")', "setlocale(0, name)", "signal(1, nullptr)",
                                   "::sigaction(1, &a, nullptr)", "umask(0)")],
    "sql-built": [
        {"src/store/sqlite/a.cc":
             'void A() { sql = absl::StrCat("SELECT a FROM b WHERE c = ", c); }\n'},
        {"src/store/sqlite/a.cc": 'void A() { sql = "DELETE FROM a WHERE b = " + b; }\n'},
        {"src/store/sqlite/a.cc": 'void A() { sql += "UPDATE a SET b = 1"; }\n'},
        {"src/store/sqlite/a.cc":
             'void A() { absl::StrAppend(&sql, R"~sql~(INSERT INTO a VALUES )~sql~"); }\n'},
    ],
    "sql-constant": [
        {"src/store/sqlite/a.cc": "void A() { sqlite3_exec(db, sql.c_str(), a, b, c); }\n"},
        {"src/store/sqlite/a.cc": "void A() { SqliteStatement read(db, sql.c_str()); }\n"},
        {"src/store/sqlite/a.cc": "void A() { db.Run(absl::StrCat(a, b).data()); }\n"},
    ],
    "sql-place": [{"src/engine/a.cc": 'const char kA[] = "SELECT 1 FROM a";\n'}],
    "version-once": [{"src/README.md": f"This is {VERSION}.\n"},
                     {"CMakeLists.txt": "project(throttl)\n"},
                     {"CMakeLists.txt": CLEAN["CMakeLists.txt"] + f"# {VERSION}\n"}],
    "readme-example": [
        {"README.md": CLEAN["README.md"].replace("throttl.db", "other.db")},
        {"README.md": CLEAN["README.md"].replace("```cpp", "```c")},
        {"examples/readme.cc": "int main() {}\n"},
        {"README.md": CLEAN["README.md"] + "```cpp\nNowhere();\n```\n"},
        {"examples/other.cc": CLEAN["examples/readme.cc"].replace("throttl.db", "other.db")},
    ],
    "readme-commands": [{"README.md": CLEAN["README.md"].replace("tests/run.sh", "tests/go.sh")}],
}


def found_in(files):
    """The names of the rules that fire on a tree of these files, with what they say."""
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            if text is not None:
                place = pathlib.Path(root, path)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(text, encoding="utf-8")
        return tidy_test.violations(root)


def main():
    failures = [f"a clean tree: {v}" for v in found_in(CLEAN)]
    for rule in tidy_test.RULES:
        if not PLANTS.get(rule):
            failures.append(f"{rule}: has no plant")
    for rule, plants in PLANTS.items():
        for number, plant in enumerate(plants, 1):
            found = found_in(CLEAN | plant)
            if {v.rule for v in found} != {rule}:
                failures.append(f"{rule}, plant {number}: found {found}")
    for failure in failures:
        print(failure)
    print(f"{sum(map(len, PLANTS.values()))} plants of {len(tidy_test.RULES)} rules,"
          f" {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

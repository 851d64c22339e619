#!/usr/bin/env python3
"""Tests run.sh and compare.py, without what others have made: nothing is installed or built.

  /usr/bin/python3 benchmarks/compare/compare_test.py PROGRAMS, the directory of the C++ programs
"""

import contextlib
import io
import pathlib
import subprocess
import sys
import unittest

import compare
import python_peer

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = pathlib.Path(sys.argv[1]).resolve()


def run_sh(*arguments):
    return subprocess.run(["bash", HERE / "run.sh", *arguments], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False)


def row(name, *command):
    return compare.Row(name, name, "C++", lambda _: (list(command), []) if command else None,
                       f"{name} is not there")


def output_of(*arguments):
    """What compare.py prints as its result."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        with contextlib.redirect_stderr(io.StringIO()):
            compare.main(["--programs", str(PROGRAMS), *arguments])
    return output.getvalue()


class ArgumentsTest(unittest.TestCase):
    def test_wrong_arguments_are_refused_before_anything_is_installed(self):
        for wrong in (["--nothing"], ["extra"], ["--repetitions", "1"], ["--repetitions", "many"],
                      ["--seconds", "0"], ["--seconds", "nan"], ["--rows", "governor,memcached"],
                      ["--row", "governor"]):
            done = run_sh(*wrong)
            self.assertEqual(done.returncode, 2, wrong)
            self.assertIn("usage: run.sh", done.stderr)
            self.assertEqual(done.stdout, "")

    def test_help_and_list_install_nothing(self):
        self.assertIn("--repetitions", run_sh("--help").stdout)
        done = run_sh("--list")
        self.assertEqual(done.returncode, 0)
        self.assertEqual([line.split()[0] for line in done.stdout.splitlines()],
                         [r.name for r in compare.ROWS])


class TableTest(unittest.TestCase):
    def test_a_row_has_median_noise_fastest_and_ratio(self):
        rows = [row(compare.BASE, "x"), row("other", "x"), row("gone")]
        samples = {compare.BASE: [100.0, 300.0, 200.0], "other": [4_000.0, 4_000.0, 4_000.0]}
        lines = compare.table(rows, samples, {"gone": "no reason"}).splitlines()
        self.assertEqual(lines[2], "| throttl-rate | C++ | 200 ns (50%) | 100 ns | 1.0 |")
        self.assertEqual(lines[3], "| other | C++ | 4.00 us (0%) | 4.00 us | 20 |")
        self.assertEqual(lines[4], "| gone | C++ | not measured: no reason |  |  |")

    def test_without_its_base_a_table_has_no_ratios(self):
        lines = compare.table([row("other", "x")], {"other": [1.0, 1.0]}, {}).splitlines()
        self.assertEqual(lines[2], "| other | C++ | 1.00 ns (0%) | 1.00 ns |  |")


class MeasureTest(unittest.TestCase):
    def test_a_program_that_fails_ends_the_run(self):
        with self.assertRaisesRegex(SystemExit, "other: it refused"):
            compare.measure(row("other", "bash", "-c", "echo it refused >&2; exit 1"), 10, PROGRAMS)

    def test_the_picks_are_those_of_minstd_rand(self):
        # Its 10,000th number, by [rand.predef] of the C++ standard, is 399268537.
        self.assertEqual(list(python_peer.picks_of(10_000))[-1], 399_268_537 % python_peer.KEYS)

    def test_the_rows_of_the_cpp_programs_are_measured(self):
        names = [r.name for r in compare.ROWS if r.language == "C++"]
        lines = output_of("--rows", ",".join(names), "--repetitions", "2", "--seconds", "0.0001")
        lines = lines.splitlines()[5:]
        self.assertEqual(len(lines), len(names))
        for name, line in zip(names, lines):
            if not name.startswith("redis"):
                self.assertNotIn("not measured", line)

    def test_programs_refuse_rows_that_they_do_not_have(self):
        for name in ("throttl_peer", "sqlite_peer", "redis_peer"):
            done = subprocess.run([PROGRAMS / name, "none", "10"], capture_output=True, text=True,
                                  check=False)
            self.assertEqual((done.returncode, done.stdout), (1, ""), name)
            self.assertIn("no such row", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)

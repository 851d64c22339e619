#!/usr/bin/env python3
"""Runs the example `replay` and compares what it says of every client with replay_oracle.py.

  replay_test.py REPLAY
"""

import datetime
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

import replay_oracle

REQUESTS = pathlib.Path(__file__).resolve().parents[2] / "examples" / "data" / "requests.csv"
QUOTAS = (10, 100, 1000)
PERIODS = ("day", "month")
SEED = 20150517
HEAD = "time,client\n"
ROW = "2015-05-17T10:05:00Z,ada\n"


class ReplayTest(unittest.TestCase):
    program = ""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name):
        return str(pathlib.Path(self.folder.name, name))

    def file(self, text, name="requests.csv"):
        pathlib.Path(self.path(name)).write_text(text, encoding="utf-8", newline="")
        return self.path(name)

    def run_replay(self, *arguments):
        return subprocess.run([self.program, *map(str, arguments)], stdin=subprocess.DEVNULL,
                              capture_output=True, encoding="utf-8", timeout=600, check=False)

    def compare(self, path, quota, period, *arguments):
        """Replays, compares every client with the oracle, and returns the oracle's result."""
        found = self.path("found.json")
        done = self.run_replay("--quota", quota, "--period", period, "--json", found, *arguments,
                               path)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        wanted = replay_oracle.replay(replay_oracle.read_requests(path), quota, period)
        difference = replay_oracle.first_difference(replay_oracle.read_json(found), wanted)
        self.assertIsNone(difference)
        return wanted

    def test_real_requests_are_decided_as_the_oracle_says(self):
        for period in PERIODS:
            for quota in QUOTAS:
                with self.subTest(period=period, quota=quota):
                    wanted = self.compare(REQUESTS, quota, period, "--db",
                                          self.path(f"{period}-{quota}.db"))
                    self.assertEqual((wanted["requests"], len(wanted["clients"])), (10000, 1753))

    def test_requests_out_of_order_count_in_the_newest_period_of_their_client(self):
        """Rows are moved by up to two days, over the end of a month."""
        draw = random.Random(SEED)
        rows = []
        for _ in range(3000):
            minutes = len(rows) * 4
            rows.append((minutes + draw.uniform(0, 2 * 24 * 60), minutes, draw.randrange(20)))
        start = datetime.datetime(2015, 5, 27)
        path = self.file(HEAD + "".join(
            f"{(start + datetime.timedelta(minutes=m)).isoformat()}Z,client-{c}\n"
            for _, m, c in sorted(rows)))
        for period in PERIODS:
            for quota in (1, 10, 20):
                with self.subTest(period=period, quota=quota, seed=SEED):
                    self.assertGreater(self.compare(path, quota, period)["refused"], 0)

    def test_a_client_whose_every_request_is_in_another_period_is_decided(self):
        path = self.file(HEAD + "".join(f"{year}-01-01T00:00:00Z,ada\n" for year in
                                        range(1970, 2200)))
        for period in PERIODS:
            self.assertEqual(self.compare(path, 1, period)["allowed"], 230)
        self.assertEqual(self.compare(path, 0, "day")["refused"], 230)

    def test_quoted_cells_line_ends_and_other_columns_are_read(self):
        path = self.file(
            'bytes,client,path,time\r\n1,"a,""b""","/x,\n\r\n,y",2015-05-17T10:05:00Z\r\n'
            '\r\n2,"a,""b""",/,2015-05-17T12:05:00.5+02:00\r\n3,c,"",2015-05-17T10:05:00Z')
        clients = self.compare(path, 1, "day")["clients"]
        self.assertEqual([(c["client"], c["refused"]) for c in clients], [('a,"b"', 1), ("c", 0)])

    def test_a_store_of_ones_own_gets_new_keys_each_time(self):
        database = self.path("own.db")
        for quota in (10, 100):
            self.compare(REQUESTS, quota, "day", "--db", database)
        self.assertGreater(pathlib.Path(database).stat().st_size, 0)
        self.compare(REQUESTS, 100, "month", "--db", "memory:")

    def test_bad_arguments_end_with_2_and_say_value_and_bound(self):
        for arguments, said in (
                ((), "a CSV file is required"),
                (("a", "b"), 'one CSV is replayed, and "b" is another'),
                (("--quota",), "--quota needs a value"),
                (("--fast", "a"), "there is no option --fast"),
                (("--db", "", "a"), "--db is empty"),
                (("--period", "week", "a"), '--period is "week", day or month is required')):
            self.check_failure(arguments, 2, said)
        for value in ("-1", "", "ten", "1.5", "10x", " 1", str(2**48), str(2**64)):
            self.check_failure(("--quota", value, "a"), 2,
                               f'--quota is "{value}", a whole number from 0 to {2**48 - 1} is')

    def check_failure(self, arguments, code, said):
        with self.subTest(arguments=arguments):
            done = self.run_replay(*arguments)
            self.assertEqual((done.returncode, done.stdout), (code, ""))
            self.assertIn(said, done.stderr)

    def test_a_bad_line_ends_with_1_and_says_which(self):
        for text, said in (
                ("", "line 1: there is no column time"),
                ("time,path\n", "line 1: there is no column client"),
                (HEAD, "has no requests"),
                (HEAD + ROW + "noon,ada\n", 'line 3: time is "noon", RFC 3339 is required'),
                (HEAD + "2015-05-17T10:05:00,ada\n", 'line 2: time is "2015-05-17T10:05:00", RFC'),
                (HEAD + "1969-12-31T23:59:59Z,a\n", '"1969-12-31T23:59:59Z", 1970 to 2199'),
                (HEAD + "2200-01-01T00:00:00Z,a\n", '"2200-01-01T00:00:00Z", 1970 to 2199'),
                (HEAD + "infinite-future,a\n", 'line 2: time is "infinite-future", 1970 to 2199'),
                (HEAD + ROW.strip() + ",\n", "line 2: it has 3 cells, 2 are required"),
                (HEAD + "\n" + "2015-05-17T10:05:00Z\n", "line 3: it has 1 cells, 2 are required"),
                (HEAD + "2015-05-17T10:05:00Z,\n", "of 0 bytes, 1 to 63 are required"),
                (HEAD + "2015-05-17T10:05:00Z," + "a" * 64 + "\n", "of 64 bytes, 1 to 63 are"),
                (HEAD + '2015-05-17T10:05:00Z,"a\n\n', "line 2: a quoted cell is not closed"),
                (HEAD + '2015-05-17T10:05:00Z,"a"b\n', 'line 2: "b" follows the closing quote'),
                (HEAD + '2015-05-17T10:05:00Z,a"b\n', 'line 2: the cell "a"b" has a quote'),
                (HEAD + "2015-05-17T10:05:00Z,a\rb\n", "line 2: a carriage return"),
                (HEAD + "2015-05-17T10:05:00Z,a\tb\n", "the client of line 2: ")):
            self.check_failure((self.file(text),), 1, said)
        self.check_failure((self.path("gone.csv"),), 1, "gone.csv cannot be read")

    def test_a_file_that_cannot_be_written_ends_with_1(self):
        done = self.run_replay("--json", self.path("no/where.json"), self.file(HEAD + ROW))
        self.assertEqual(done.returncode, 1)
        self.assertIn("where.json cannot be written", done.stderr)


if __name__ == "__main__":
    ReplayTest.program = sys.argv.pop(1)
    unittest.main()

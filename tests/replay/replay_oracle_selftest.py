#!/usr/bin/env python3
"""Tests replay_oracle.py: on requests with a known result, and on real ones by a closed formula.

  /usr/bin/python3 tests/replay/replay_oracle_selftest.py
"""

import collections
import contextlib
import copy
import csv
import io
import json
import pathlib
import tempfile
import unittest

import replay_oracle

REQUESTS = pathlib.Path(__file__).resolve().parents[2] / "examples" / "data" / "requests.csv"

# ada: three on the last day of May, one on the 1st of June, and one that says May again.
# bob: one request, with a quoted path that has commas, quotes and a line end.
SMALL = """time,client,method,path,status,bytes
2015-05-31T23:59:57Z,ada,GET,/a,200,1
2015-05-31T23:59:58Z,ada,GET,/b,200,1
2015-06-01T01:59:59+02:00,ada,GET,/c,200,1
2015-06-01T00:00:00Z,bob,GET,"/search,2015-06-01T00:00:00Z,ada,""GET""
,/c",403,676
2015-06-01T00:00:00Z,ada,GET,/d,200,1
2015-05-31T23:59:59.5Z,ada,GET,/e,200,1
"""

SMALL_BY_QUOTA = {  # the same for days and months: the only boundary is one of both
    0: {"ada": (0, 5, "2015-05-31T23:59:57Z"), "bob": (0, 1, "2015-06-01T00:00:00Z")},
    # The last one of ada is refused: June has begun, and its unit is used.
    1: {"ada": (2, 3, "2015-05-31T23:59:58Z"), "bob": (1, 0, None)},
    # It is allowed: it counts in June, in which one unit was used, and not in May, which is full.
    2: {"ada": (4, 1, "2015-05-31T23:59:59Z"), "bob": (1, 0, None)},
    3: {"ada": (5, 0, None), "bob": (1, 0, None)},
}


def by_client(result):
    return {c["client"]: (c["allowed"], c["refused"], c["first_refused_at"])
            for c in result["clients"]}


class ReplayOracleTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def file(self, name, text):
        path = pathlib.Path(self.folder.name, name)
        path.write_text(text, encoding="utf-8", newline="")
        return str(path)

    def run_oracle(self, *arguments):
        """The exit code, and what was printed."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                code = replay_oracle.main([str(a) for a in arguments])
            except SystemExit as ended:
                code = ended.code
        return code, out.getvalue()

    def result(self, quota, period, path):
        code, text = self.run_oracle("--quota", quota, "--period", period, path)
        self.assertEqual(code, 0, text)
        return json.loads(text)

    def test_small_file_has_the_known_result(self):
        path = self.file("small.csv", SMALL)
        for quota, wanted in SMALL_BY_QUOTA.items():
            for period in ("day", "month"):
                with self.subTest(quota=quota, period=period):
                    self.assertEqual(by_client(self.result(quota, period, path)), wanted)

    def test_output_has_all_fields_and_clients_by_name(self):
        path = self.file("small.csv", SMALL)
        self.assertEqual(self.result(1, "day", path), {
            "requests": 6, "allowed": 3, "refused": 3,
            "by_code": {"valid": 3, "quota_exceeded": 3},
            "clients": [
                {"client": "ada", "allowed": 2, "refused": 3,
                 "first_refused_at": "2015-05-31T23:59:58Z"},
                {"client": "bob", "allowed": 1, "refused": 0, "first_refused_at": None}]})
        self.assertEqual(self.result(3, "day", path)["by_code"], {"valid": 6})

    def test_a_request_of_an_earlier_period_counts_in_the_newest_one_of_its_client(self):
        path = self.file("back.csv", "time,client\n"
                         "2015-05-18T00:00:00Z,ada\n2015-05-17T00:00:00Z,ada\n"
                         "2015-05-17T00:00:00Z,bob\n2015-05-18T00:00:00.25Z,ada\n")
        self.assertEqual(by_client(self.result(1, "day", path)),
                         {"ada": (1, 2, "2015-05-17T00:00:00Z"), "bob": (1, 0, None)})
        self.assertEqual(by_client(self.result(2, "day", path))["ada"],
                         (2, 1, "2015-05-18T00:00:00.25Z"))

    def test_real_requests_have_the_result_of_a_closed_formula(self):
        """In order of time, a client with n requests in a period has max(0, n - quota) refused."""
        with open(REQUESTS, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([r["time"] for r in rows], sorted(r["time"] for r in rows))
        for period, digits in (("day", 10), ("month", 7)):
            for quota in (10, 100, 1000):
                counts = collections.Counter((r["client"], r["time"][:digits]) for r in rows)
                refused = collections.Counter()
                for (client, _), count in counts.items():
                    refused[client] += max(0, count - quota)
                result = self.result(quota, period, REQUESTS)
                with self.subTest(period=period, quota=quota):
                    self.assertEqual(result["requests"], 10000)
                    self.assertEqual(len(result["clients"]), 1753)
                    self.assertEqual(result["refused"], refused.total())
                    self.assertEqual({c["client"]: c["refused"] for c in result["clients"]},
                                     dict(refused))

    def compare(self, found, quota=1):
        text = found if isinstance(found, str) else json.dumps(found)
        return self.run_oracle("--quota", quota, "--period", "day", "--compare",
                               self.file("found.json", text), self.file("small.csv", SMALL))

    def right(self):
        return self.result(1, "day", self.file("small.csv", SMALL))

    def test_an_equal_file_is_equal_whatever_its_order_and_form(self):
        found = self.right()
        found["clients"].reverse()
        found["clients"][1]["first_refused_at"] = "2015-06-01T01:59:58.000+02:00"
        found["by_code"]["rate_limited"] = 0
        self.assertEqual(self.compare(found),
                         (0, "equal: 6 requests of 2 clients, 3 refused\n"))

    def test_the_first_difference_is_said(self):
        def changed(change):
            found = copy.deepcopy(self.right())
            change(found)
            return found

        ada = "client ada: first_refused_at is"
        for change, said in (
                (lambda f: f.update(requests=7), "requests is 7, and 6 is right"),
                (lambda f: f.update(allowed=True), "allowed is true, and 3 is right"),
                (lambda f: f.pop("refused"), "refused is null, and 3 is right"),
                (lambda f: f["by_code"].pop("valid"), "by_code: valid is 0, and 3 is right"),
                (lambda f: f["by_code"].update(missing=1), "by_code: missing is 1, and 0 is right"),
                (lambda f: f.pop("by_code"), "by_code is not an object"),
                (lambda f: f["clients"].pop(), "client bob is missing"),
                (lambda f: f["clients"].append({"client": "eve"}), "client eve is not in the CSV"),
                (lambda f: f["clients"].append(f["clients"][0]), "clients has a client twice"),
                (lambda f: f["clients"].append({}),
                 "clients is not an array of objects with a client"),
                (lambda f: f["clients"][0].update(allowed=3),
                 "client ada: allowed is 3, and 2 is right"),
                (lambda f: f["clients"][0].update(first_refused_at=None),
                 f'{ada} null, and "2015-05-31T23:59:58Z" is right'),
                (lambda f: f["clients"][0].update(first_refused_at="2015-05-31T23:59:59Z"),
                 f'{ada} "2015-05-31T23:59:59Z", and "2015-05-31T23:59:58Z" is right'),
                (lambda f: f["clients"][0].update(first_refused_at=1433116798),
                 f'{ada} 1433116798, and "2015-05-31T23:59:58Z" is right'),
                (lambda f: f["clients"][1].pop("first_refused_at"),
                 'client bob: first_refused_at is "nothing", and null is right')):
            with self.subTest(said=said):
                self.assertEqual(self.compare(changed(change)), (1, f"different: {said}\n"))
        self.assertEqual(self.compare("[]"), (1, "different: it is not an object\n"))
        self.assertEqual(self.compare(self.right(), quota=2)[0], 1)

    def test_files_and_arguments_that_are_none_end_with_2(self):
        small = self.file("small.csv", SMALL)
        for text in ("time,path\n", "time,client\n2015-05-17,ada\n", "time,client\nnoon,ada\n",
                     "time,client\n2015-05-17T00:00:00Z\n", "time,client\n2015-05-17T00:00:00,a\n",
                     "time,client\n2015-05-17T00:00:00Z,\"a\n", ""):
            with self.subTest(text=text):
                path = self.file("bad.csv", text)
                self.assertEqual(self.run_oracle("--quota", 1, "--period", "day", path)[0], 2)
        self.assertEqual(self.compare("{")[0], 2)
        for arguments in ((-1, "day", small), ("x", "day", small), (1, "week", small),
                          (1, "day", small + ".gone")):
            with self.subTest(arguments=arguments):
                quota, period, path = arguments
                self.assertEqual(
                    self.run_oracle(f"--quota={quota}", "--period", period, path)[0], 2)


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env python3
"""Recomputes from the CSV alone what the example `replay` has to write with --json.

  replay_oracle.py --quota N --period day|month CSV                  prints that JSON
  replay_oracle.py --quota N --period day|month --compare FILE CSV   compares FILE with it

The rules, which this program shares with the library but no code:
- Every client has a key of its own, with N units in each period; a period is a day or a month of
  the calendar in UTC. A request is validated at its own time, in the order of the file, and costs
  1. It is allowed when less than N units are used in the period, and then uses one. A refused one
  uses nothing.
- A clock that jumps back never reopens a period that has closed: a request with an earlier time
  counts in the newest period that the client's key has reached. Other clients do not matter to it.
- first_refused_at is the time of the client's first refused request in the order of the file, as
  RFC 3339; null when none was refused. by_code counts the codes that occurred.

A comparison takes clients in any order, times in any form of RFC 3339, and a code that is left out
as 0. Exits with 0 when all is equal, 1 after it said the first difference, and 2 when an argument
or file is not what it has to be.
"""

import argparse
import csv
import datetime
import json
import re
import sys


class InputError(Exception):
    """A file that is not what it has to be."""


def parse_time(text):
    """An instant from RFC 3339, in UTC."""
    # Before Python 3.11 fromisoformat takes no Z, and a fraction of 3 or 6 digits only.
    plain = re.sub(r"\.(\d{1,6})\d*", lambda m: "." + m[1].ljust(6, "0"), text.upper())
    try:
        time = datetime.datetime.fromisoformat(plain.replace("Z", "+00:00"))
    except ValueError as error:
        raise InputError(f"{text!r} is not a time of RFC 3339") from error
    if time.tzinfo is None:
        raise InputError(f"{text!r} has no offset from UTC")
    return time.astimezone(datetime.timezone.utc)


def format_time(time):
    whole = time.strftime("%Y-%m-%dT%H:%M:%S")
    return whole + (f".{time.microsecond:06}".rstrip("0") if time.microsecond else "") + "Z"


def period_of(time, period):
    return (time.year, time.month, time.day) if period == "day" else (time.year, time.month)


def read_requests(path):
    """(time, client) of each request, in the order of the file."""
    with open(path, encoding="utf-8", newline="") as file:
        try:
            rows = csv.DictReader(file, strict=True)
            for name in ("time", "client"):
                if name not in (rows.fieldnames or []):
                    raise InputError(f"{path} has no column {name}")
            for row in rows:
                if None in row or None in row.values():
                    raise InputError(f"line {rows.line_num} of {path} has another number of cells")
                yield parse_time(row["time"]), row["client"]
        except csv.Error as error:
            raise InputError(f"line {rows.line_num} of {path}: {error}") from error


class Client:
    def __init__(self):
        self.period, self.used = (), 0
        self.allowed, self.refused, self.first_refused_at = 0, 0, None

    def validate(self, time, quota, period):
        now = period_of(time, period)
        if now > self.period:
            self.period, self.used = now, 0
        if self.used < quota:
            self.used += 1
            self.allowed += 1
            return
        self.refused += 1
        if self.first_refused_at is None:
            self.first_refused_at = format_time(time)


def replay(requests, quota, period):
    clients = {}
    for time, name in requests:
        clients.setdefault(name, Client()).validate(time, quota, period)
    allowed = sum(c.allowed for c in clients.values())
    refused = sum(c.refused for c in clients.values())
    codes = {"valid": allowed, "quota_exceeded": refused}
    return {
        "requests": allowed + refused, "allowed": allowed, "refused": refused,
        "by_code": {code: count for code, count in codes.items() if count},
        "clients": [{"client": name, "allowed": c.allowed, "refused": c.refused,
                     "first_refused_at": c.first_refused_at}
                    for name, c in sorted(clients.items())],
    }


def count_difference(where, found, wanted):
    if type(found) is not int or found != wanted:  # True is no number
        return f"{where} is {json.dumps(found)}, and {wanted} is right"
    return None


def client_difference(where, found, wanted):
    for field in ("allowed", "refused"):
        if said := count_difference(f"{where}: {field}", found.get(field), wanted[field]):
            return said
    right, time = wanted["first_refused_at"], found.get("first_refused_at", "nothing")
    try:
        equal = (time is None) == (right is None) and (
            time is None or parse_time(time) == parse_time(right))
    except (InputError, AttributeError):
        equal = False
    return None if equal else (f"{where}: first_refused_at is {json.dumps(time)}, and"
                               f" {json.dumps(right)} is right")


def first_difference(found, wanted):
    """What to say of the first field in which `found` differs; None when it does not."""
    if not isinstance(found, dict):
        return "it is not an object"
    codes, clients = found.get("by_code"), found.get("clients")
    if not isinstance(codes, dict):
        return "by_code is not an object"
    if not isinstance(clients, list) or not all(
            isinstance(c, dict) and isinstance(c.get("client"), str) for c in clients):
        return "clients is not an array of objects with a client"
    for field in ("requests", "allowed", "refused"):
        if said := count_difference(field, found.get(field), wanted[field]):
            return said
    for code in sorted(codes.keys() | wanted["by_code"].keys()):
        if said := count_difference(f"by_code: {code}", codes.get(code, 0),
                                    wanted["by_code"].get(code, 0)):
            return said
    by_name = {c["client"]: c for c in clients}
    if len(by_name) != len(clients):
        return "clients has a client twice"
    right_by_name = {c["client"]: c for c in wanted["clients"]}
    for name in sorted(by_name.keys() | right_by_name.keys()):
        if name not in by_name:
            return f"client {name} is missing"
        if name not in right_by_name:
            return f"client {name} is not in the CSV"
        if said := client_difference(f"client {name}", by_name[name], right_by_name[name]):
            return said
    return None


def read_json(path):
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as error:
            raise InputError(f"{path} is not JSON: {error}") from error


def quota_number(text):
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def main(arguments):
    parser = argparse.ArgumentParser(
        description="Recomputes what the example replay writes with --json.")
    parser.add_argument("--quota", type=quota_number, required=True, metavar="N")
    parser.add_argument("--period", choices=("day", "month"), required=True)
    parser.add_argument("--compare", metavar="FILE")
    parser.add_argument("csv", metavar="CSV")
    given = parser.parse_args(arguments)
    try:
        wanted = replay(read_requests(given.csv), given.quota, given.period)
        if given.compare is None:
            print(json.dumps(wanted, indent=1))
            return 0
        difference = first_difference(read_json(given.compare), wanted)
    except (InputError, OSError, UnicodeDecodeError) as error:
        print(f"replay_oracle.py: {error}", file=sys.stderr)
        return 2
    if difference is not None:
        print(f"different: {difference}")
        return 1
    print(f"equal: {wanted['requests']} requests of {len(wanted['clients'])} clients,"
          f" {wanted['refused']} refused")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

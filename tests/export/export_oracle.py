"""Reads exports back with Python's own csv and json modules, and compares with what was exported.

    export_oracle.py CSV JSON TOLD ROWS

Each line of TOLD is a row: five texts (key id, key name, plan name, owner id, plan id) as the hex
of UTF-8, used, limit, number of the period, start, reset, last use in ms since 1970; "-": none.
Also reads the CSV as a spreadsheet that splits at semicolons or tabs, and that knows no quotes
within a cell, and looks for cells that it would run. Exits with 1 at the first difference.
"""

import csv
import datetime
import json
import re
import sys

PERIODS = [None, "hour", "day", "week", "month", "year", "lifetime"]
HEADER = ["Key ID", "Key Name", "Plan", "Current Usage", "Monthly Quota", "Percent Used",
          "Owner ID", "Plan ID", "Period", "Period Start", "Resets At", "Remaining", "Last Used At"]
NAMES = ["keyId", "keyName", "planName", "currentUsage", "monthlyQuota", "percentUsed",
         "ownerId", "planId", "period", "periodStart", "resetsAt", "remaining", "lastUsedAt"]
TEXTS = [0, 1, 2, 6, 7]
FORMULA = re.compile("[\"\\x00-\\x20\\x7f]*[=+\\-@\uff1d\uff0b\uff0d\uff20]")


def fail(*what):
    sys.exit("different: " + " ".join(map(repr, what)))


def with_one_mark(value):
    """How many U+FFFD stand for a broken sequence is not the same for all programs."""
    return re.sub("\ufffd+", "\ufffd", value) if isinstance(value, str) else value


def moment(ms):
    if ms == "-":
        return None
    start = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return (start + datetime.timedelta(seconds=int(ms) // 1000)).strftime("%Y-%m-%dT%H:%M:%SZ")


def wanted_row(line):
    """The values that JSON has for a line of TOLD."""
    fields = line.rstrip("\n").split(",")
    key_id, key_name, plan_name, owner_id, plan_id = (
        bytes.fromhex(f).decode("utf-8") for f in fields[:5])
    used, limit = int(fields[5]), None if fields[6] == "-" else int(fields[6])
    percent = remaining = None
    if limit is not None:
        percent = 100 if limit == 0 else used * 100 // limit
        remaining = max(0, limit - used)
    return [key_id, key_name, plan_name, used, limit, percent, owner_id, plan_id,
            PERIODS[int(fields[7])], moment(fields[8]), moment(fields[9]), remaining,
            moment(fields[10])]


def runs(cell):
    """Whether a spreadsheet takes the cell for a formula: also one that drops what it may drop."""
    return FORMULA.match(cell) is not None


def without_apostrophes(cell):
    return cell.replace("'", "")


def check_csv_row(number, cells, wanted):
    if len(cells) != len(HEADER):
        fail("row", number, cells)
    for column, (cell, value) in enumerate(zip(cells, wanted)):
        if column not in TEXTS:
            text = "" if value is None else str(value)
            if cell != text + ("%" if column == 5 and text else ""):
                fail("row", number, HEADER[column], cell, value)
            continue
        value = value.replace("\0", "\ufffd")
        # Where nothing begins a formula the cell is the text; else apostrophes were put in.
        plain = not re.search("[=+\\-@\uff1d\uff0b\uff0d\uff20]|^[\t\r\n]", value)
        if cell != value if plain else without_apostrophes(cell) != without_apostrophes(value):
            fail("row", number, HEADER[column], cell, value)
        if runs(cell) or cell[:1] in ("\t", "\r", "\n"):
            fail("runs", number, HEADER[column], cell)


def check_foreign_readers(path):
    """No cell runs for readers with another separator, or without an idea of quotes."""
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    for separator in ";\t":
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
            lines = re.split("(?<=[\r\n])", text)
            for row in csv.reader(lines, delimiter=separator, quoting=quoting):
                for cell in row:
                    if runs(cell):
                        fail("runs when split at", separator, quoting, cell)


def main():
    csv_path, json_path, told_path, count = sys.argv[1:]
    csv.field_size_limit(1 << 30)
    with open(told_path, encoding="ascii") as file:
        wanted = [wanted_row(line) for line in file]
    with open(csv_path, encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, strict=True)
    with open(json_path, encoding="utf-8") as file:
        objects = json.load(file)
    if not len(wanted) == len(rows) == len(objects) == int(count):
        fail("rows", len(wanted), len(rows), len(objects), count)
    if header != HEADER:
        fail("header", header)
    for number, (cells, row, values) in enumerate(zip(rows, objects, wanted)):
        if list(row) != NAMES or [with_one_mark(v) for v in row.values()] != [
                with_one_mark(v) for v in values]:
            fail("object", number, row, values)
        check_csv_row(number, cells, values)
    check_foreign_readers(csv_path)
    print(f"{count} rows read back from CSV and from JSON")


main()

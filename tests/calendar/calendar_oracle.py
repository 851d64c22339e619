"""Cases for QuotaCalendar with the answers of Python's zoneinfo, as text on stdout.

    calendar_oracle.py CASES SEED

It works by brute force and shares no idea with the library: for every zone it lists the instant at
which each day from 1968 to 2402 begins, picks the days at which a quota starts again out of that
list, and finds the period of an instant by bisection.

    Z <zone>                                   the cases that follow are in this zone
    <period> <anchor> <now ms> <start s> <end s>   end "-": never
    END <cases> <cases near a transition or a month's end>
"""

import bisect
import calendar
import random
import sys
import zoneinfo
from datetime import date, datetime

ZONES = """UTC Africa/Cairo Africa/Casablanca Africa/Monrovia America/Asuncion America/Caracas
America/Havana America/New_York America/Nuuk America/Santiago America/Sao_Paulo
America/Scoresbysund America/St_Johns Antarctica/Troll Asia/Amman Asia/Beirut Asia/Gaza
Asia/Jerusalem Asia/Kathmandu Asia/Pyongyang Asia/Tehran Atlantic/Azores Australia/Lord_Howe
Europe/Dublin Europe/London Pacific/Apia Pacific/Chatham Pacific/Kiritimati
Pacific/Kwajalein""".split()

HOUR, DAY, WEEK, MONTH, YEAR, LIFETIME = range(1, 7)
EPOCH = date(1970, 1, 1).toordinal()
FIRST_YEAR, LAST_YEAR = 1970, 2400
FIRST_DAY, LAST_DAY = date(FIRST_YEAR - 2, 1, 1).toordinal(), date(LAST_YEAR + 3, 1, 1).toordinal()
FIRST_NOW = (date(FIRST_YEAR, 1, 1).toordinal() - EPOCH) * 86400
END_NOW = (date(LAST_YEAR + 1, 1, 1).toordinal() - EPOCH) * 86400
TWO_HOURS = 7200


def seconds(delta):
    return delta.days * 86400 + delta.seconds


def offset_at(zone, instant):
    """Seconds that the zone's clock is ahead of UTC."""
    return seconds(datetime.fromtimestamp(instant, zone).utcoffset())


def first_true(low, high, test):
    """The first integer in (low, high] where `test` holds; it holds at high and not at low."""
    while high - low > 1:
        middle = (low + high) // 2
        if test(middle):
            high = middle
        else:
            low = middle
    return high


def transitions(zone):
    """Instants at which the offset changes, but for pairs less than three days apart."""
    found, step = [], 3 * 86400
    before = offset_at(zone, FIRST_NOW)
    for instant in range(FIRST_NOW + step, END_NOW, step):
        after = offset_at(zone, instant)
        if after != before:
            changed = lambda t: offset_at(zone, t) != before
            found.append(first_true(instant - step, instant, changed))
            before = after
    return found


def day_starts(zone):
    """For each day, the first instant at which the zone's clock shows 00:00 of it or later."""
    starts = []
    for ordinal in range(FIRST_DAY, LAST_DAY):
        midnight = datetime.fromordinal(ordinal).replace(tzinfo=zone)
        local = (ordinal - EPOCH) * 86400
        early, late = zone.utcoffset(midnight), zone.utcoffset(midnight.replace(fold=1))
        instant = local - seconds(early)
        if early < late:  # 00:00 is in a gap (PEP 495): look for the moment at which it begins
            instant = first_true(local - seconds(late) - 1, instant,
                                 lambda t: t + offset_at(zone, t) >= local)
        starts.append(instant)
    return starts


def anchor_days(period, anchor):
    """The days at which a quota starts again."""
    every_day = range(FIRST_DAY, LAST_DAY)
    if period == DAY:
        return every_day
    if period == WEEK:
        return [day for day in every_day if date.fromordinal(day).isoweekday() == anchor]
    days = []
    for year in range(FIRST_YEAR - 1, LAST_YEAR + 3):
        for month in range(1, 13) if period == MONTH else [1]:
            length = calendar.monthrange(year, month)[1]
            days.append(date(year, month, min(anchor, length)).toordinal())
    return days


class Cases:
    def __init__(self, rng):
        self.rng = rng
        self.days = {}  # (period, anchor) -> anchor days; the same in every zone
        self.near = 0

    def quota(self):
        rng = self.rng
        period = rng.choices((HOUR, DAY, WEEK, MONTH, YEAR, LIFETIME), (3, 15, 15, 45, 20, 2))[0]
        if period == WEEK:
            return period, rng.randint(1, 7)
        return period, rng.choice((1, 28, 29, 30, 31)) if rng.random() < 0.6 else rng.randint(1, 31)

    def instant(self, starts, changes):
        rng = self.rng
        kind = rng.random()
        if kind < 0.3 and changes:
            self.near += 1
            return rng.choice(changes) * 1000 + rng.randint(-TWO_HOURS * 1000, TWO_HOURS * 1000)
        if kind < 0.65:  # from the beginning of a month's last day to two hours after its end
            self.near += 1
            year, month = rng.randint(FIRST_YEAR, LAST_YEAR), rng.randint(1, 12)
            last = date(year, month, calendar.monthrange(year, month)[1]).toordinal() - FIRST_DAY
            if rng.random() < 0.5:  # exactly on a boundary, or a millisecond to either side
                return starts[last + 1] * 1000 + rng.choice((-1, 0, 1))
            return rng.randint(starts[last] * 1000, (starts[last + 1] + TWO_HOURS) * 1000)
        return rng.randint(FIRST_NOW * 1000, END_NOW * 1000 - 1)

    def period(self, boundaries, starts, period, anchor, now):
        if period == LIFETIME:
            return 0, "-"
        if period == HOUR:
            return now // 3600 * 3600, now // 3600 * 3600 + 3600
        key = (period, anchor)
        if key not in boundaries:
            if key not in self.days:
                self.days[key] = anchor_days(period, anchor)
            boundaries[key] = [starts[day - FIRST_DAY] for day in self.days[key]]
        line = boundaries[key]
        at = bisect.bisect_right(line, now)
        return line[at - 1], line[at]

    def write(self, out, name, count):
        zone = zoneinfo.ZoneInfo(name)
        starts, changes, boundaries = day_starts(zone), transitions(zone), {}
        out.write(f"Z {name}\n")
        lines = []
        for _ in range(count):
            period, anchor = self.quota()
            now_ms = self.instant(starts, changes)
            start, end = self.period(boundaries, starts, period, anchor, now_ms // 1000)
            lines.append(f"{period} {anchor} {now_ms} {start} {end}\n")
        out.write("".join(lines))


def main():
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    cases = Cases(random.Random(seed))
    per_zone = -(-count // len(ZONES))
    for name in ZONES:
        cases.write(sys.stdout, name, per_zone)
    sys.stdout.write(f"END {per_zone * len(ZONES)} {cases.near}\n")


main()

"""Reads headers and bodies with http-sf and json, and compares every value with the decision's.

    structured_field_oracle.py SAMPLES

SAMPLES are lines of header_samples. What is expected is computed here anew, from the drafts and the
words of throttl/http.h, in exact fractions. Exits with 1 at the first difference.
"""

import fractions
import json
import sys

import http_sf

SECOND = 1_000_000
ROUNDING = 1_000  # a unit that is due within it counts as given: the next one is what is next
VALID, RATE_LIMITED, QUOTA_EXCEEDED = 1, 9, 10
UNAVAILABLE = 0


def fail(sample, *what):
    sys.exit("different: " + " ".join(map(repr, what)) + "\n" + json.dumps(sample))


def whole_seconds(us):
    return max(0, -(-us // SECOND))


def until_next_unit(rate, until_all):
    """Of a burst that fills up, a unit each window / limit, until the last one."""
    if until_all <= 0:
        return 0
    step = fractions.Fraction(rate["window_us"], rate["limit"])
    rest = until_all % step
    if 0 < rest <= ROUNDING or rest == 0:
        rest = step
    return min(until_all, rest)


class Policy:
    def __init__(self, name, limit, remaining, window, more, reset, refused, retry):
        self.name, self.limit, self.remaining = name, limit, remaining
        self.window = window // SECOND if window and window > 0 and window % SECOND == 0 else None
        self.more, self.reset, self.refused = more, reset, refused
        if refused and retry is not None:
            self.reset = max(0, retry)
            self.more = self.reset if more is None else min(more, self.reset)


def policies_of(sample):
    if sample["code"] not in (VALID, RATE_LIMITED, QUOTA_EXCEEDED):
        return []
    now, retry, found = sample["decided_us"], sample["retry_us"], []
    if rate := sample["rate"]:
        reset = max(0, rate["resets_us"] - now)
        found.append(Policy(rate["name"], rate["limit"], rate["remaining"], rate["window_us"],
                            until_next_unit(rate, reset), reset, sample["code"] == RATE_LIMITED,
                            retry))
    quota = sample["quota"]
    if quota and not sample["unmetered"]:
        reset = window = None
        if quota["resets_us"] is not None:
            reset = max(0, quota["resets_us"] - now)
            if quota["starts_us"] is not None:
                window = quota["resets_us"] - quota["starts_us"]
        found.append(Policy(quota["name"], quota["limit"], max(0, quota["limit"] - quota["used"]),
                            window, reset, reset, sample["code"] == QUOTA_EXCEEDED, retry))
    return found


def without_none(values):
    return {name: value for name, value in values.items() if value is not None}


def seconds(us):
    return None if us is None else int(whole_seconds(us))


def the_one(sample, policies, reset_required):
    told = [p for p in policies if not reset_required or p.reset is not None]
    if sample["code"] != VALID:
        told = [p for p in told if p.refused]
    return min(told, default=None,
               key=lambda p: fractions.Fraction(p.remaining, max(1, p.limit)))


def parsed(headers, name, kind):
    return http_sf.parse(headers.pop(name).encode("ascii"), tltype=kind)


def expect(sample, what, got, wanted):
    if got != wanted:
        fail(sample, what, got, wanted)


def check_lists(sample, headers, policies):
    if not policies:
        return
    reset = sample["fields"] == 8
    expect(sample, "RateLimit-Policy", parsed(headers, "RateLimit-Policy", "list"),
           [(p.name, without_none({"q": p.limit, "w": p.window})) for p in policies])
    expect(sample, "RateLimit", parsed(headers, "RateLimit", "list"),
           [(p.name, without_none({"r": p.remaining, "t": seconds(p.reset if reset else p.more)}))
            for p in policies])


def check_draft_6_or_7(sample, headers, policies):
    policy = the_one(sample, policies, reset_required=True)
    if policy is None:
        return
    if policy.window is not None:
        expect(sample, "RateLimit-Policy", parsed(headers, "RateLimit-Policy", "list"),
               [(policy.limit, {"w": policy.window})])
    wanted = [policy.limit, policy.remaining, seconds(policy.reset)]
    if sample["fields"] == 7:
        expect(sample, "RateLimit", parsed(headers, "RateLimit", "dictionary"),
               {name: (value, {}) for name, value in zip(("limit", "remaining", "reset"), wanted)})
        return
    for name, value in zip(("Limit", "Remaining", "Reset"), wanted):
        expect(sample, name, parsed(headers, "RateLimit-" + name, "item"), (value, {}))


def check_legacy(sample, headers, policies):
    policy = the_one(sample, policies, reset_required=False)
    if policy is None:
        return
    reset = None if policy.reset is None else whole_seconds(sample["decided_us"] + policy.reset)
    for name, value in zip(("Limit", "Remaining", "Reset"),
                           (policy.limit, policy.remaining, reset)):
        if value is not None:
            expect(sample, name, headers.pop("X-RateLimit-" + name), str(value))


def check_refusal(sample, headers):
    retry = sample["retry_us"]
    if sample["status"] == 503 and retry is None:
        retry = SECOND
    if sample["status"] in (429, 503) and retry is not None:
        expect(sample, "Retry-After", parsed(headers, "Retry-After", "item"),
               (max(1, whole_seconds(retry)), {}))
    headers.pop("WWW-Authenticate", None)
    if sample["code"] != VALID:
        expect(sample, "Cache-Control", headers.pop("Cache-Control"), "no-store")


def check_body(sample):
    if sample["code"] == VALID:
        expect(sample, "body", sample["body"], "")
        return
    body = json.loads(sample["body"])
    expect(sample, "status", body["status"], sample["status"])
    violated = None
    if sample["code"] == RATE_LIMITED and sample["rate"]:
        violated = sample["rate"]["name"]
    if sample["code"] == QUOTA_EXCEEDED and sample["quota"]:
        violated = sample["quota"]["name"]
    if violated is not None:
        expect(sample, "violated", body["violated-policies"], [violated])


def main():
    count = items = 0
    with open(sys.argv[1], encoding="ascii") as file:
        for line in file:
            sample = json.loads(line)
            headers = dict(sample.get("headers") or {})
            policies = policies_of(sample)
            items += len(policies)
            if sample["fields"] in (8, 10):
                check_lists(sample, headers, policies)
            elif sample["fields"] in (6, 7):
                check_draft_6_or_7(sample, headers, policies)
            if sample["legacy"]:
                check_legacy(sample, headers, policies)
            check_refusal(sample, headers)
            if headers:
                fail(sample, "not expected", headers)
            check_body(sample)
            count += 1
    if count == 0 or items < count // 2:
        sys.exit("too few samples")
    print(f"{count} responses with {items} limits read")


main()

"""limits and throttled-py, with their stores in memory.

  python3 python_peer.py limits|token_bucket|gcra CALLS
"""

import sys
import time

KEYS = 1_000
LIMIT = 60_000_000  # a minute


def picks_of(count):
    """Numbers below KEYS, the same ones in every peer: minstd_rand of seed 1, modulo KEYS."""
    state = 1
    for _ in range(count):
        state = state * 48271 % 2147483647
        yield state % KEYS


def limits_peer(_, limit):
    """A fixed window, the usual strategy."""
    import limits
    hit = limits.strategies.FixedWindowRateLimiter(limits.storage.MemoryStorage()).hit
    item = limits.RateLimitItemPerMinute(limit)

    def count_allowed(keys):
        allowed = 0
        for key in keys:
            if hit(item, key):
                allowed += 1
        return allowed

    return count_allowed


def throttled_peer(algorithm, limit):
    import throttled
    # With the 1,024 buckets that it has by default, it forgets limited keys among more of them.
    store = throttled.MemoryStore(options={"MAX_SIZE": 100_000})
    ask = throttled.Throttled(
        using=algorithm, quota=throttled.per_min(limit, burst=limit), store=store).limit

    def count_allowed(keys):
        allowed = 0
        for key in keys:
            if not ask(key).limited:
                allowed += 1
        return allowed

    return count_allowed


# What each row makes of a limit: a function that makes a request for each of the keys, and says how
# many were allowed.
PEERS = {"limits": limits_peer, "token_bucket": throttled_peer, "gcra": throttled_peer}


def require(holds, what):
    if not holds:
        sys.exit(f"the benchmark cannot go on: {what}")


def main(row, calls):
    calls = int(calls)
    keys = [f"key_{number:020}" for number in range(KEYS)]
    three = PEERS[row](row, 3)
    require(three(keys[:1] * 3) == 3, "a limit of 3 refused one of the first three")
    require(three(keys[:1]) == 0, "a limit of 3 allowed the fourth")

    count_allowed = PEERS[row](row, LIMIT)
    picked = [keys[pick] for pick in picks_of(calls)]
    require(count_allowed(picked) == calls, "a check was refused")
    start = time.perf_counter_ns()
    allowed = count_allowed(picked)
    took = time.perf_counter_ns() - start
    require(allowed == calls, "a check was refused")
    print(took / calls)


if __name__ == "__main__":
    main(*sys.argv[1:])

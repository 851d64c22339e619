//! governor: a keyed limiter in memory, its default one (GCRA, DashMap).
//!
//! governor_peer keyed CALLS

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::num::NonZeroU32;
use std::time::Instant;

const KEYS: u64 = 1_000;
const LIMIT: u32 = 60_000_000; // a minute

fn limiter_of(limit: u32) -> DefaultKeyedRateLimiter<String> {
    RateLimiter::keyed(Quota::per_minute(NonZeroU32::new(limit).unwrap()))
}

/// Numbers below KEYS, the same ones in every peer: minstd_rand of seed 1, modulo KEYS.
fn picks(count: usize) -> Vec<u16> {
    let mut state: u64 = 1;
    let mut next = || {
        state = state * 48_271 % 2_147_483_647;
        (state % KEYS) as u16
    };
    (0..count).map(|_| next()).collect()
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    assert!(
        arguments.len() == 3 && arguments[1] == "keyed",
        "usage: keyed CALLS"
    );
    let calls: usize = arguments[2].parse().expect("CALLS is a number");
    let keys: Vec<String> = (0..KEYS)
        .map(|number| format!("key_{number:020}"))
        .collect();

    let three = limiter_of(3);
    for _ in 0..3 {
        assert!(
            three.check_key(&keys[0]).is_ok(),
            "a limit of 3 refused one of the first three"
        );
    }
    assert!(
        three.check_key(&keys[0]).is_err(),
        "a limit of 3 allowed the fourth"
    );

    let all = limiter_of(LIMIT);
    let picks = picks(calls);
    let run = || {
        let allowed = picks
            .iter()
            .filter(|&&pick| all.check_key(&keys[usize::from(pick)]).is_ok())
            .count();
        assert_eq!(allowed, calls, "a check was refused");
    };
    run();
    let start = Instant::now();
    run();
    println!("{}", start.elapsed().as_nanos() as f64 / calls as f64);
}

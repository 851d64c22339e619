// rate-limiter-flexible and the memory store of express-rate-limit, each check awaited.
//
// node node_peer.mjs flexible|express CALLS MODULES, the directory that holds node_modules
import assert from 'node:assert';
import { createRequire } from 'node:module';

const KEYS = 1000;
const LIMIT = 60_000_000; // a minute

const [row, calls, modules] = [process.argv[2], Number(process.argv[3]), process.argv[4]];
assert(calls > 0 && modules, 'usage: ROW CALLS MODULES');
const load = createRequire(`${modules}/package.json`);

// Numbers below KEYS, the same ones in every peer: minstd_rand of seed 1, modulo KEYS.
function picksOf(count) {
  let state = 1;
  return Uint16Array.from({ length: count }, () => {
    state = (state * 48271) % 2147483647;
    return state % KEYS;
  });
}

const keys = Array.from({ length: KEYS }, (_, number) => `key_${String(number).padStart(20, '0')}`);

// What each row makes of a limit: a function that makes a request for each of the picks, one after
// the other, and says how many were allowed.
const peers = {
  flexible(limit) {
    const { RateLimiterMemory } = load('rate-limiter-flexible');
    const limiter = new RateLimiterMemory({ points: limit, duration: 60 });
    return async (picks) => {
      let allowed = 0;
      for (const pick of picks) {
        try {
          await limiter.consume(keys[pick]);
          ++allowed;
        } catch (refusal) {
          if (refusal instanceof Error) throw refusal;
        }
      }
      return allowed;
    };
  },
  // What its middleware does with a request, without the request: the store counts, it compares.
  express(limit) {
    const { MemoryStore } = load('express-rate-limit');
    const store = new MemoryStore();
    store.init({ windowMs: 60_000 });
    return async (picks) => {
      let allowed = 0;
      for (const pick of picks) {
        if ((await store.increment(keys[pick])).totalHits <= limit) ++allowed;
      }
      return allowed;
    };
  },
};
assert(row in peers, 'no such row');

const three = peers[row](3);
assert.strictEqual(await three([0, 0, 0]), 3, 'a limit of 3 refused one of the first three');
assert.strictEqual(await three([0]), 0, 'a limit of 3 allowed the fourth');

const all = peers[row](LIMIT);
const picks = picksOf(calls);
assert.strictEqual(await all(picks), calls, 'a check was refused');
const start = process.hrtime.bigint();
const allowed = await all(picks);
const took = process.hrtime.bigint() - start;
assert.strictEqual(allowed, calls, 'a check was refused');
console.log(Number(took) / calls);
process.exit(0);

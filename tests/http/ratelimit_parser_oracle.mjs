// Reads drafts 6 and 7 and X-RateLimit fields with ratelimit-header-parser, as clients do, and
// compares limit, remaining and reset with the decision's.
//
//   node ratelimit_parser_oracle.mjs PACKAGES SAMPLES
//
// SAMPLES are lines of header_samples; PACKAGES is the directory that has node_modules. Exits with 1
// at the first difference.
import { createReadStream } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [packages, samples] = process.argv.slice(2);
const { parseRateLimit } = createRequire(`${packages}/`)("ratelimit-header-parser");

const kValid = 1;
const kRateLimited = 9;
const kQuotaExceeded = 10;

// The parser adds seconds to the time of day: it stands still, at the decision's.
let now = 0;
const SystemDate = Date;
globalThis.Date = class extends SystemDate {
  constructor(...time) {
    super(...(time.length === 0 ? [now] : time));
  }
};

function fail(sample, ...what) {
  console.error("different:", ...what, JSON.stringify(sample));
  process.exit(1);
}

// The limits that are told, in microseconds from the decision on; reset null: never.
function limitsOf(sample) {
  if (![kValid, kRateLimited, kQuotaExceeded].includes(sample.code)) return [];
  const limits = [];
  const { rate, quota } = sample;
  if (rate) {
    limits.push({ code: kRateLimited, limit: rate.limit, remaining: rate.remaining,
                  reset: rate.resets_us - sample.decided_us });
  }
  if (quota && !sample.unmetered) {
    limits.push({ code: kQuotaExceeded, limit: quota.limit,
                  remaining: Math.max(0, quota.limit - quota.used),
                  reset: quota.resets_us === null ? null : quota.resets_us - sample.decided_us });
  }
  if (sample.code === kValid) return limits;
  const refused = limits.filter((limit) => limit.code === sample.code);
  for (const limit of refused) limit.reset = sample.retry_us ?? limit.reset;
  return refused;
}

function withSmallestPart(limits) {
  const part = (a, b) => BigInt(a.remaining) * BigInt(Math.max(1, b.limit));
  return limits.reduce((a, b) => (a === null || part(b, a) < part(a, b) ? b : a), null);
}

function check(sample, prefix, reset, wanted) {
  const headers = {};
  for (const [name, value] of Object.entries(sample.headers ?? {})) {
    if (name.toLowerCase().startsWith(prefix)) headers[name.toLowerCase()] = value;
  }
  const got = parseRateLimit(headers, { reset });
  if (!wanted || !got) {
    if (wanted || got) fail(sample, got, wanted);
    return 0;
  }
  if (got.limit !== wanted.limit || got.remaining !== wanted.remaining) fail(sample, got, wanted);
  if (wanted.reset === null) {
    if (!Number.isNaN(got.reset.getTime())) fail(sample, got, wanted);
    return 1;
  }
  // Never early, and late by less than the second that it was rounded up to.
  const late = got.reset.getTime() * 1000 - (sample.decided_us + Math.max(0, wanted.reset));
  if (late < 0 || late >= 1_000_000) fail(sample, got, wanted, late);
  return 1;
}

let count = 0;
let compared = 0;
for await (const line of createInterface({ input: createReadStream(samples) })) {
  const sample = JSON.parse(line);
  now = sample.decided_us / 1000;
  const limits = limitsOf(sample);
  if (sample.fields === 6 || sample.fields === 7) {
    const told = limits.filter((limit) => limit.reset !== null);
    compared += check(sample, "ratelimit", "seconds", withSmallestPart(told));
  }
  if (sample.legacy) compared += check(sample, "x-ratelimit", "unix", withSmallestPart(limits));
  count += 1;
}
if (compared < count / 4) fail({ count, compared }, "too few samples");
console.log(`${compared} limits of ${count} responses read`);

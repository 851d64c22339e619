#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include <doctest/doctest.h>
#include <rapidcheck.h>

#include "throttl/usage.h"

namespace throttl {
namespace {

std::string Start(const std::string& time, Period bucket) {
  absl::Time parsed;
  std::string error;
  REQUIRE_MESSAGE(absl::ParseTime(absl::RFC3339_full, time, &parsed, &error), error);
  return absl::FormatTime("%Y-%m-%d %H:%M:%E*S", BucketStart(parsed, bucket), absl::UTCTimeZone());
}

TEST_CASE("a bucket is an hour, day or month of UTC") {
  CHECK(Start("2024-02-29T23:59:59.999Z", Period::kHour) == "2024-02-29 23:00:00");
  CHECK(Start("2024-02-29T23:59:59.999Z", Period::kDay) == "2024-02-29 00:00:00");
  CHECK(Start("2024-02-29T23:59:59.999Z", Period::kMonth) == "2024-02-01 00:00:00");
  CHECK(Start("2024-03-01T00:00:00Z", Period::kHour) == "2024-03-01 00:00:00");
  CHECK(Start("2024-03-01T00:00:00Z", Period::kDay) == "2024-03-01 00:00:00");
  CHECK(Start("2024-03-01T00:00:00Z", Period::kMonth) == "2024-03-01 00:00:00");
  CHECK(Start("2024-03-01T01:30:00+02:00", Period::kMonth) == "2024-02-01 00:00:00");
}

TEST_CASE("times before the epoch are rounded down too") {
  CHECK(Start("1969-12-31T23:59:59.5Z", Period::kHour) == "1969-12-31 23:00:00");
  CHECK(Start("1969-12-31T23:59:59.5Z", Period::kDay) == "1969-12-31 00:00:00");
  CHECK(Start("1969-12-31T23:59:59.5Z", Period::kMonth) == "1969-12-01 00:00:00");
}

TEST_CASE("a bucket holds its time, and its start is its own bucket") {
  CHECK(rc::check([] {
    const Period bucket = *rc::gen::element(Period::kHour, Period::kDay, Period::kMonth);
    const absl::Duration longest = bucket == Period::kHour  ? absl::Hours(1)
                                   : bucket == Period::kDay ? absl::Hours(24)
                                                            : absl::Hours(24 * 31);
    const auto ms = *rc::gen::inRange<std::int64_t>(-1'000'000'000'000, 10'000'000'000'000);
    const absl::Time time = absl::FromUnixMillis(ms);
    const absl::Time start = BucketStart(time, bucket);
    RC_ASSERT(start <= time);
    RC_ASSERT(time - start < longest);
    RC_ASSERT(BucketStart(start, bucket) == start);
    RC_ASSERT(BucketStart(start - absl::Milliseconds(1), bucket) < start);
  }));
}

}  // namespace
}  // namespace throttl

// A DecisionMaker makes random decisions: plausible ones, as an engine gives them, or any at all.
//
// Thread safety: none.
//
//   DecisionMaker maker(seed);   HttpHeaders(maker.Anything());
#ifndef THROTTL_TESTS_HTTP_DECISION_MAKER_H_
#define THROTTL_TESTS_HTTP_DECISION_MAKER_H_

#include <cstdint>
#include <random>
#include <string>

#include "throttl/decision.h"
#include "throttl/http.h"

namespace throttl::testing {

class DecisionMaker {
 public:
  explicit DecisionMaker(std::uint64_t seed) : random_(seed) {}

  // What an engine may give, and names of rate limits of all printable ASCII. Times are whole
  // milliseconds of 2020 to 2030, and the units of a rate limit come back in whole microseconds.
  Decision Plausible();
  // Any bytes in each text, any number, any time, any code.
  Decision Anything();
  // Fields of any draft; realm and scope of any bytes, which live as long as this object and until
  // the next call.
  HttpOptions AnyOptions();

  std::int64_t Below(std::int64_t bound);
  bool OneIn(std::int64_t count) { return Below(count) == 0; }
  std::string Bytes(std::int64_t size_max);

 private:
  RateState PlausibleRate(absl::Time now);
  QuotaState PlausibleQuota(absl::Time now);
  std::int64_t AnyNumber();
  absl::Time AnyTime();
  absl::Duration AnyDuration();

  std::mt19937_64 random_;
  std::string realm_;
  std::string scope_;
};

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_HTTP_DECISION_MAKER_H_

// An Engine manages API keys and decides, in process, whether a key may make a request now.
//
// Thread safety: all methods may be called from any thread, and after fork from both processes.
// Destroying it is not a call: end the others first.
//
//   auto engine = throttl::Engine::Open("throttl.db");
//   auto issued = (*engine)->CreateKey({.owner_id = "acme", .plan_id = "free", .name = "prod"});
//   throttl::Decision d = (*engine)->Validate(issued->secret.Reveal(), {.cost = 1, .endpoint =
//   "/v1/search"});
#ifndef THROTTL_ENGINE_H_
#define THROTTL_ENGINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "throttl/clock.h"
#include "throttl/decision.h"
#include "throttl/event.h"
#include "throttl/explanation.h"
#include "throttl/key.h"
#include "throttl/plan.h"
#include "throttl/usage.h"

namespace throttl {

class QuotaStore;

// One request, as far as a decision needs to know it. The views are borrowed for the call.
struct Request {
  std::int64_t cost = 1;           // units, 0..kCostMax; 0 checks everything and spends nothing
  std::string_view method = {};    // "GET"
  std::string_view endpoint = {};  // path or route template that the host matches on: "/v1/search"
  std::string_view address =
      {};  // of the client, IPv4 or IPv6; only looked at when the key has a list
  std::string_view scope = {};  // scopes that the key must have, separated by spaces
};

// What Validate does when a known key has no units in hand and the store cannot be asked. A secret
// that is not known yet is always refused then: this is about counting, not about who someone is.
enum class StoreFailure : std::uint8_t { kRefuse = 1, kAllow = 2 };

enum class LogLevel : std::uint8_t { kInfo = 1, kWarning = 2, kError = 3 };

// A key for digests, kept outside the store. The highest version is used for new digests; the
// others still verify.
struct Pepper {
  std::int32_t version = 1;  // 1..1000
  Secret value = {};         // 16..64 bytes
};

struct EngineOptions {
  StoreFailure on_store_failure = StoreFailure::kRefuse;
  // One thread, started by the first call that needs it. Without it nothing is settled until Flush
  // is called.
  bool settle_thread = true;
  absl::Duration settle_interval = absl::Milliseconds(250);  // 10 ms..60 s
  // How long hourly usage, and the counters of periods that have ended, are kept: 1 day or more.
  absl::Duration history_kept = absl::Hours(400 * 24);
  // How long the event log is kept: 1 hour or more. For both, absl::InfiniteDuration(): for ever.
  // What is older is forgotten after a settle, once an hour, and only when the clock has run for an
  // hour without a jump.
  absl::Duration events_kept = absl::Hours(30 * 24);
  std::string secret_prefix = "thr_live";         // [a-z0-9_]{2,32}
  std::vector<Plan> seed_plans = DefaultPlans();  // written when the store is first opened
  std::vector<Pepper> peppers = {};
  std::int64_t cached_keys_max = 1'000'000;  // 1..2^30; about 330 bytes each when full
  // 1..2^30 slots of the lease table; 576 bytes each when in use. A table that is in use, or not
  // settled, keeps the number that it was made with.
  std::int64_t active_subjects_max = 1'000'000;
  // 1..2^30 places for rate limits of keys that are limited, or were in the last second; 32 bytes
  // each when in use. When some 4 in 10 of them are taken, one more limit may find none. A table
  // that is in use keeps the number that it was made with; one that is made with another number has
  // all limits at rest.
  std::int64_t rate_slots_max = 1'000'000;
  std::shared_ptr<Clock> clock = nullptr;  // nullptr: the system's
  std::function<void(std::span<std::uint8_t>)> random =
      nullptr;  // nullptr: getrandom; for tests only
  std::function<void(LogLevel, std::string_view)> log =
      nullptr;  // called by the settle thread; nullptr: silence
};

struct EngineStats {
  std::int64_t allowed = 0;
  std::int64_t refused = 0;
  std::int64_t shadow_refusals = 0;  // requests that a shadow rate limit would have refused
  std::int64_t key_cache_misses = 0;
  std::int64_t settles = 0;
  std::int64_t settle_failures = 0;
  std::optional<absl::Time> last_settled_at = std::nullopt;
  absl::Status last_store_error = absl::OkStatus();
};

class Engine {
 public:
  // Opens or makes the store at `url`: "memory:", or a file path or "sqlite:PATH", with the store's
  // own options as parameters: "sqlite:/var/lib/throttl.db?durability=power". Other stores: Create.
  // FailedPrecondition: the file is of a newer version, of another program, or on a network file
  // system.
  static absl::StatusOr<std::unique_ptr<Engine>> Open(std::string_view url,
                                                      EngineOptions options = {});
  // On a store of your own. Engines may share one store: they then act like processes that share a
  // file.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(std::shared_ptr<QuotaStore> store,
                                                        EngineOptions options = {});
  ~Engine();  // Close, whose status is lost
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Decides, and spends request.cost if the decision allows. Lock-free, and without allocation or
  // system call, except when a secret is seen for the first time or a subject has no units in hand:
  // then it may ask the store and block. A refusal spends nothing.
  [[nodiscard]] Decision Validate(std::string_view secret, const Request& request = {}) noexcept;
  // The decision that Validate would make, spending nothing: how a key's holder asks what is left.
  [[nodiscard]] Decision Peek(std::string_view secret, const Request& request = {}) noexcept;
  // Makes the cost of an earlier decision `actual_cost`: less gives units back, 0 all of them, more
  // spends more as far as the limit allows. Returns what is now spent, which is also in
  // decision.spent. Repeating it changes nothing. Nothing changes when the decision refused or its
  // period has ended. Rate limits are not given back.
  std::int64_t Adjust(Decision& decision, std::int64_t actual_cost) noexcept;

  // What Peek would decide on a live secret of the key, and every limit that applies to the
  // request, with its state: for people. Spends nothing. It reads the store and allocates.
  // InvalidArgument: the cost. NotFound: also another owner's key.
  absl::StatusOr<Explanation> Explain(std::string_view key_id, const Request& request = {},
                                      const Caller& caller = {});

  // Keys. Errors of all: InvalidArgument (says which field and bound), NotFound (also for another
  // owner's key), Unavailable (nothing is known of the outcome; repeat the call). When a call
  // returns OK, every process on this machine decides by it.
  absl::StatusOr<IssuedKey> CreateKey(const Key& key,
                                      const Caller& caller = {});  // AlreadyExists: the id
  absl::StatusOr<ImportReport> ImportKeys(std::span<const ImportedKey> keys,
                                          const Caller& caller = {});
  absl::StatusOr<IssuedKey> RotateKey(std::string_view key_id, const RotateOptions& options = {},
                                      const Caller& caller = {});  // FailedPrecondition: revoked
  // Aborted: it was changed since it was read. `carry_over`: when the key gets another quota, by
  // itself or with another plan; InvalidArgument as for PutPlan, and where the keys of an owner
  // share a quota: that is carried over for all of them.
  absl::StatusOr<Key> UpdateKey(const Key& key, const Caller& caller = {},
                                CarryOver carry_over = CarryOver::kDifference);
  absl::Status RevokeKey(std::string_view key_id,
                         const Caller& caller = {});  // OK when it was revoked already
  absl::StatusOr<Key> GetKey(std::string_view key_id, const Caller& caller = {});
  absl::StatusOr<Page<Key>> ListKeys(const KeyQuery& query = {},
                                     const Caller& caller = {});  // oldest first

  // Plans. A change holds at once for the running period, and alerts are raised anew.

  // Makes or replaces it. Aborted: version. `carry_over` says what becomes of what the plan's keys
  // have used in the running period, all at once; of them those with a quota of their own are not
  // concerned. InvalidArgument: another period, anchor day, time zone or scope needs kReset, and
  // kProportional and kAdditive need a quota before and after. What is used while the call is under
  // way counts as used after the change. All but kDifference settle first and write a counter for
  // each key, which holds up other changes and settles, and takes the more the more keys there are.
  absl::StatusOr<Plan> PutPlan(const Plan& plan, const Caller& caller = {},
                               CarryOver carry_over = CarryOver::kDifference);
  absl::Status DeletePlan(std::string_view plan_id,
                          const Caller& caller = {});  // FailedPrecondition: keys are on it
  absl::StatusOr<Plan> GetPlan(std::string_view plan_id);
  absl::StatusOr<std::vector<Plan>> ListPlans();

  // Usage.
  absl::StatusOr<Usage> GetUsage(std::string_view key_id, const Caller& caller = {});
  absl::StatusOr<Page<Usage>> ListUsage(const KeyQuery& query = {}, const Caller& caller = {});
  absl::StatusOr<std::vector<UsageBucket>> UsageHistory(const UsageQuery& query,
                                                        const Caller& caller = {});
  // Streams the running period of every key of `owner_id` (empty: all) to `write`, and stops at its
  // first error.
  absl::Status ExportUsage(std::string_view owner_id, ExportFormat format,
                           const std::function<absl::Status(std::string_view chunk)>& write,
                           const Caller& caller = {});

  // The event log after `after_seq`, oldest first, at most `count_max` (1..1000).
  absl::StatusOr<std::vector<Event>> ReadEvents(std::int64_t after_seq, std::int32_t count_max,
                                                const Caller& caller = {});

  // Settles everything that was spent before the call; when it returns OK the store has it, and has
  // raised quota.reset for the periods that have ended.
  absl::Status Flush();

  // A consistent copy of the store while it is in use. Unimplemented where the store has its own
  // tools.
  absl::Status Backup(std::string_view destination);
  // Flushes, gives back what was set aside, ends the thread. Afterwards every decision is
  // kStoreUnavailable and every other call FailedPrecondition. Closing again is OK.
  absl::Status Close();

  EngineStats stats() const;

  const std::shared_ptr<QuotaStore>& store() const;

 private:
  class Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace throttl

#endif  // THROTTL_ENGINE_H_

// A QuotaStore keeps what must outlive a process: plans, keys, counters, usage history, the event
// log and deliveries.
//
// The engine comes here only when a key is seen for the first time, when something changes, and to
// settle; never for a decision in its stride. Twenty-two methods, of which eleven must be written
// to run an engine; the rest have defaults that answer Unimplemented and only switch off what they
// name.
//
// What every implementation promises (tests/store/ checks it; run it on yours with
// throttl::testing::StoreContract):
//   1. Thread safety: any method from any thread at any time, and no method calls back into the
//      engine.
//   2. Each method is atomic: all of it or nothing, also after a crash. Settle: each row with its
//      events.
//   3. OK means done and as durable as info() says. A store holds nothing back, so it has no flush.
//   4. Repeating a call, with the same arguments, after an unknown outcome has the effect of one
//      call.
//   5. A read sees every write that returned before it began.
//   6. No exception; the status is the whole answer:
//        Unavailable, DeadlineExceeded, ResourceExhausted: outcome unknown, repeat later
//          (a disk full is this)
//        Aborted: a version differs; nothing was changed; read again
//        AlreadyExists: an id or locator is taken by another record; nothing was changed
//        FailedPrecondition: refused until somebody acts
//        DataLoss: damaged, never granted from again
//        InvalidArgument, Internal: a bug
//   7. Messages never hold a digest. Arguments are borrowed for the call; nothing returned points
//      into the store.
//   8. Limits: lists of at most 1,000, but for ChangeSet::carry_overs; strings as their types say;
//      times in whole milliseconds. The caller keeps them.
//
//   class MyStore : public throttl::QuotaStore { ... };
//   auto engine = throttl::Engine::Create(std::make_shared<MyStore>());
#ifndef THROTTL_QUOTA_STORE_H_
#define THROTTL_QUOTA_STORE_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "throttl/event.h"
#include "throttl/key.h"
#include "throttl/plan.h"
#include "throttl/settle.h"
#include "throttl/usage.h"

namespace throttl {

inline constexpr std::int32_t kStoreBatchMax = 1000;

// What a power failure or kernel crash may cost. A killed process costs nothing either way.
enum class Durability : std::uint8_t {
  kProcess = 1,  // the usage of the last settle interval is forgotten
  kPower = 2,    // none is; units that were set aside for use count as used
};

struct StoreInfo {
  std::string kind = {};  // "memory", "sqlite", ...: for messages
  std::string store_id =
      {};  // random, made with the store: another one means another, or a restored, store
  std::string lease_path =
      {};  // where the machine's lease table goes; empty: in memory, for this process alone
  Durability durability =
      Durability::kProcess;         // what OK means here; the engine counts accordingly
  bool shared_by_machines = false;  // leases expire, and the event log is followed for changes
};

// How a secret is checked: HMAC-SHA-256(pepper, SHA-256(secret)), or SHA-256(secret) when
// pepper_version is 0. So a digest imported from another system, or stored before there was a
// pepper, can be peppered without the secret.
struct SecretRecord {
  SecretInfo info = {};  // info.locator is unique in the store
  Sha256Digest digest = {};
  std::int32_t pepper_version = 0;
};

struct KeyRecord {
  Key key = {};                            // without `secrets`
  std::vector<SecretRecord> secrets = {};  // 0..2, newest first
  std::string detector_state = {};         // opaque, at most 1 KiB; written by Settle
};

struct WebhookRecord {
  std::string id = {};  // 1..39 bytes
  std::string owner_id = {};
  std::string url = {};                       // at most 2,048 bytes
  std::vector<std::string> event_types = {};  // empty: all
  std::vector<std::string> sealed_secrets =
      {};  // 1..2, sealed by the notifier: a store cannot read them
  bool active = true;
  std::int64_t version = 0;
};

// Changes that belong together. Each record carries the version that it shall have: the stored one
// must be one less, 0 when there is none.
struct ChangeSet {
  struct Deletion {
    std::string id = {};
    std::int64_t version = 0;  // the stored one
  };
  // Random; applying the same id again answers OK and changes nothing. A store remembers at least
  // its last 10,000 change sets.
  std::string id = {};
  std::vector<Plan> put_plans = {};
  std::vector<Deletion> delete_plans = {};
  std::vector<KeyRecord> put_keys = {};
  std::vector<WebhookRecord> put_webhooks = {};
  std::vector<Deletion> delete_webhooks = {};
  // ApplyCarryOver on each of these counters, which is written if that says so; as many as a plan
  // has keys.
  std::vector<CarryRow> carry_overs = {};
  std::vector<Event> events = {};
};

struct WebhookQuery {
  std::string owner_id = {};  // empty: any
  std::string id = {};        // empty: any
};

// What one holder counted for one key in one hour, in total: the newest numbers of a holder replace
// its older ones.
struct UsageRow {
  std::string key_id = {};
  UsageBucket hour = {};
};

struct KeyActivity {
  std::string key_id = {};
  absl::Time last_used_at = absl::UnixEpoch();
  std::string detector_state = {};
};

struct SettleBatch {
  HolderId holder = {};
  absl::Time now =
      absl::UnixEpoch();  // the engine's clock; a store shared by machines uses its own
  std::optional<absl::Duration> lease_ttl = std::nullopt;  // std::nullopt: leases do not expire
  std::vector<SettleRow> rows = {};                        // at most one for each counter
  std::vector<UsageRow> usage = {};
  std::vector<KeyActivity> activity = {};
};

enum class DeliveryState : std::uint8_t { kPending = 1, kDelivered = 2, kDead = 3 };

// One event on its way to one webhook or mailbox.
struct Delivery {
  std::string id = {};           // event id + "." + destination: unique
  std::string destination = {};  // webhook id, or "mailto:..."
  Event event = {};
  DeliveryState state = DeliveryState::kPending;
  std::int32_t attempts = 0;
  absl::Time due_at = absl::UnixEpoch();  // of the next attempt
  std::uint64_t claim = 0;                // of the worker that has it; 0: nobody
  std::int32_t last_http_status = 0;
  std::string last_error = {};  // at most 1 KiB
};

struct DeliveryClaim {
  std::uint64_t claim = 0;  // random, not 0
  absl::Time now = absl::UnixEpoch();
  absl::Time until = absl::UnixEpoch();  // when it may be claimed by another
  std::int32_t count_max = 100;
};

struct DeliveryQuery {
  std::string owner_id = {};
  std::string destination = {};
  std::optional<DeliveryState> state = std::nullopt;
  std::string cursor = {};
  std::int32_t count_max = 100;
};

// What may be forgotten. Open leases, counters of running periods and pending deliveries never are.
struct PruneLimits {
  std::optional<absl::Time> counters_before = std::nullopt;  // by period_end
  std::optional<absl::Time> usage_before = std::nullopt;
  std::optional<absl::Time> events_before = std::nullopt;
  std::optional<absl::Time> deliveries_before = std::nullopt;
  std::int32_t rows_max = 10'000;
};

class QuotaStore {
 public:
  virtual ~QuotaStore() = default;  // closes; nothing that was acknowledged is lost

  // Constant, and cheap.
  virtual const StoreInfo& info() const = 0;

  // --- Plans, keys, webhooks, events

  // Every plan. There are at most a few thousand.
  virtual absl::StatusOr<std::vector<Plan>> ReadPlans() = 0;

  // The keys of these secret locators, in any order, without those that are not there. This is the
  // read that a first request waits for: one indexed look-up.
  virtual absl::StatusOr<std::vector<KeyRecord>> FindKeys(
      std::span<const std::string> locators) = 0;

  // The pepper versions (0: none) that the secrets of keys that are not revoked need, ascending.
  // Default: reads all keys, a page at a time, with ListKeys.
  virtual absl::StatusOr<std::vector<std::int32_t>> ReadPepperVersions();

  // Whether there is a locator that begins with "imp_", of a secret of another system. Without one,
  // texts that are not secrets of Throttl's format are refused without a look-up. Default: true.
  virtual absl::StatusOr<bool> HasImportedSecrets();

  // Keys by id, in any order, without those that are not there.
  virtual absl::StatusOr<std::vector<KeyRecord>> ReadKeys(std::span<const std::string> key_ids) = 0;

  // One page of the keys that match, oldest first. A key made or changed meanwhile may be missed,
  // none comes twice.
  virtual absl::StatusOr<Page<KeyRecord>> ListKeys(const KeyQuery& query) = 0;

  virtual absl::StatusOr<std::vector<WebhookRecord>> ListWebhooks(const WebhookQuery& query);

  // Writes all of `changes`, or nothing. Appends `changes.events` to the log, and returns the log's
  // last seq. Aborted: a version differs. AlreadyExists: a new key's id or a locator is taken.
  // FailedPrecondition: a key that is not revoked would be on a plan that does not exist. Leaves
  // last_used_at and detector_state of a stored key as they are.
  virtual absl::StatusOr<std::int64_t> Apply(const ChangeSet& changes) = 0;

  // Events with a larger seq, in order. When an event is seen, no event with a smaller seq appears
  // afterwards.
  virtual absl::StatusOr<std::vector<Event>> ReadEvents(std::int64_t after_seq,
                                                        std::int32_t count_max) = 0;

  // --- Counting

  // For each row, atomically: load the counter and this holder's lease, ApplySettle, write both and
  // the events. Writes usage and activity, in the same transaction where the store has one, else
  // after the rows. Replies in the order of the rows. After an error any of them may have been
  // applied: the engine repeats the batch. A store shared by machines first retires (kLost) the
  // leases of a counter that have expired, when units are wanted.
  virtual absl::StatusOr<std::vector<SettleReply>> Settle(const SettleBatch& batch) = 0;

  // The counters, in order; a default-constructed one where none is stored.
  virtual absl::StatusOr<std::vector<Counter>> ReadCounters(std::span<const CounterId> ids) = 0;

  // The newest `now` and period_start of all that was settled: no counter is of a later time. A
  // lease table that is made anew asks it once; without an answer, it looks every counter up that
  // it comes to. absl::InfinitePast(): none yet. Default: absl::InfiniteFuture(), no answer.
  virtual absl::StatusOr<absl::Time> ReadNewestTime();

  // ApplyRetire on every open lease of `holder`. The engine knows that the holder is gone.
  virtual absl::Status RetireHolder(HolderId holder, LeaseState end) = 0;

  // ApplyPeriodEnd, and its events, in one transaction, for counters that are due for it, at most
  // `rows_max`, those that ended first before others. Returns for how many: fewer than `rows_max`
  // when no more are due. Default: 0, and there are no events quota.reset.
  virtual absl::StatusOr<std::int64_t> EndPeriods(absl::Time now, std::int32_t rows_max);

  // Hourly rows that match, summed over holders, and over keys when no key is asked for, in
  // `query.bucket`s, by time.
  virtual absl::StatusOr<std::vector<UsageBucket>> ReadUsage(const UsageQuery& query) = 0;

  // --- Deliveries: needed by a Notifier

  // Hands out pending deliveries that are due and not claimed, each to one claim until `until`.
  struct Claimed {
    std::vector<Delivery> deliveries = {};
    std::int64_t planned_seq = 0;
  };
  virtual absl::StatusOr<Claimed> ClaimDeliveries(const DeliveryClaim& claim);

  // Adds each delivery whose id is not stored; replaces a stored one whose claim is the same, which
  // ends the claim's time, and leaves it otherwise. Deliveries exist for all events up to
  // `planned_seq`, which never goes back.
  virtual absl::Status PutDeliveries(std::span<const Delivery> deliveries,
                                     std::int64_t planned_seq);

  // One page, newest first.
  virtual absl::StatusOr<Page<Delivery>> ListDeliveries(const DeliveryQuery& query);

  // --- Upkeep

  // Forgets at most limits.rows_max rows; returns how many. Default: 0.
  virtual absl::StatusOr<std::int64_t> Prune(const PruneLimits& limits);

  // A consistent copy while in use. Default: Unimplemented.
  virtual absl::Status Backup(std::string_view destination);

  // Closes every handle and thread; the next call opens them again. Called before fork, when no
  // other call runs. Default: nothing, right for a store without handles.
  virtual void Suspend();
};

}  // namespace throttl

#endif  // THROTTL_QUOTA_STORE_H_

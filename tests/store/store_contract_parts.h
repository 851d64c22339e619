// The parts that the checks of the store contract are made of: records to write, texts to compare.
//
// Thread safety: pure functions, but Must and Skip, which are for the thread of the test.
//
//   const auto store = open_new();
//   MustApply(*store, {.put_plans = {NewPlan("free")}, .put_keys = {NewKey("k1", "free")}});
#ifndef THROTTL_TESTS_STORE_STORE_CONTRACT_PARTS_H_
#define THROTTL_TESTS_STORE_STORE_CONTRACT_PARTS_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include <doctest/doctest.h>

#include "throttl/quota_store.h"

#include "tests/store/store_contract.h"

namespace throttl::testing {

inline constexpr std::int64_t kSecond0 = 1767225600;  // 2026-01-01 00:00 UTC
inline absl::Time At(std::int64_t seconds) { return absl::FromUnixSeconds(kSecond0 + seconds); }

// A text for a change set's id that no other call returns, in any process.
std::string UniqueId();

// Version 1 of a plan; of a key with one secret, whose locator is "loc-" + id and whose digest
// begins with the id; of a webhook; and an event.
Plan NewPlan(const std::string& id);
KeyRecord NewKey(const std::string& id, const std::string& plan_id,
                 const std::string& owner_id = "acme", std::int64_t created_s = 0);
SecretRecord NewSecret(const std::string& locator);
WebhookRecord NewWebhook(const std::string& id, const std::string& owner_id);
Event NewEvent(const std::string& id);
ChangeSet NewChanges();  // with a unique id
SettleRow NewRow(const std::string& subject, std::int64_t seq, std::int64_t used, std::int64_t keep,
                 std::int64_t want);

// Every field as text, one line a record: what is compared.
std::string Dump(const Plan& plan);
std::string Dump(const KeyRecord& record);
std::string Dump(const WebhookRecord& webhook);
std::string Dump(const Event& event);  // without seq
std::string Dump(const Counter& counter);
std::string Dump(const SettleReply& reply);
std::string Dump(const UsageBucket& bucket);
std::string Dump(const Delivery& delivery);

// What Apply writes, as the store's reads show it: plans, keys, webhooks, events.
std::string Snapshot(QuotaStore& store);

// All keys that match, page by page.
absl::StatusOr<std::vector<KeyRecord>> ListAllKeys(QuotaStore& store, KeyQuery query);
// All events after `after_seq`.
absl::StatusOr<std::vector<Event>> ReadAllEvents(QuotaStore& store, std::int64_t after_seq);

// Repeats a call whose outcome is unknown, with the same arguments, as an engine does.
absl::StatusOr<std::int64_t> ApplyRepeating(QuotaStore& store, const ChangeSet& changes);
absl::StatusOr<std::vector<SettleReply>> SettleRepeating(QuotaStore& store,
                                                         const SettleBatch& batch);

std::vector<std::string> Ids(const std::vector<KeyRecord>& records);  // sorted

template <typename T>
T Must(absl::StatusOr<T> result) {
  REQUIRE_MESSAGE(result.ok(), result.status().ToString());
  return *std::move(result);
}
std::int64_t MustApply(QuotaStore& store, ChangeSet changes);  // gives it an id if it has none
std::vector<SettleReply> MustSettle(QuotaStore& store, const SettleBatch& batch);

// Says that `what` could not run here.
void Skip(const StoreUnderTest& store, const std::string& what);

// The checks, a file each.
std::span<const StorePromise> RecordPromises();
std::span<const StorePromise> ChangePromises();
std::span<const StorePromise> CountingPromises();
std::span<const StorePromise> DeliveryPromises();
std::span<const StorePromise> CallerPromises();

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_STORE_STORE_CONTRACT_PARTS_H_

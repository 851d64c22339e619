#include "throttl/sqlite_store.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "src/base/status_macros.h"
#include "src/store/sqlite/sqlite_backup.h"
#include "src/store/sqlite/sqlite_counting.h"
#include "src/store/sqlite/sqlite_database.h"
#include "src/store/sqlite/sqlite_log.h"
#include "src/store/sqlite/sqlite_outbox.h"
#include "src/store/sqlite/sqlite_records.h"

namespace throttl {
namespace {

using internal::SqliteConnection;
using internal::SqliteDatabase;

// Everything of one change set, inside its transaction, up to its events.
absl::Status WriteChanges(SqliteConnection& db, const ChangeSet& changes) {
  for (const Plan& plan : changes.put_plans) {
    THROTTL_RETURN_IF_ERROR(internal::SqlitePutPlan(db, plan));
  }
  for (const ChangeSet::Deletion& deletion : changes.delete_plans) {
    THROTTL_RETURN_IF_ERROR(internal::SqliteDeletePlan(db, deletion));
  }
  THROTTL_RETURN_IF_ERROR(internal::SqlitePutKeys(db, changes.put_keys));
  for (const WebhookRecord& webhook : changes.put_webhooks) {
    THROTTL_RETURN_IF_ERROR(internal::SqlitePutWebhook(db, webhook));
  }
  for (const ChangeSet::Deletion& deletion : changes.delete_webhooks) {
    THROTTL_RETURN_IF_ERROR(internal::SqliteDeleteWebhook(db, deletion));
  }
  return internal::SqliteCarryOver(db, changes.carry_overs);
}

// Every key that is not revoked must be on a plan that exists, as the change leaves them.
absl::Status CheckPlansOfKeys(SqliteConnection& db, const ChangeSet& changes) {
  for (const KeyRecord& record : changes.put_keys) {
    if (record.key.revoked_at.has_value()) continue;
    THROTTL_ASSIGN_OR_RETURN(const bool exists, internal::SqliteHasPlan(db, record.key.plan_id));
    if (exists) continue;
    return absl::FailedPreconditionError(absl::StrCat("plan \"", record.key.plan_id, "\" of key \"",
                                                      record.key.id, "\" does not exist"));
  }
  for (const ChangeSet::Deletion& deletion : changes.delete_plans) {
    THROTTL_ASSIGN_OR_RETURN(const bool used, internal::SqlitePlanIsUsed(db, deletion.id));
    if (!used) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("plan \"", deletion.id, "\" has keys that are not revoked"));
  }
  return absl::OkStatus();
}

absl::Status CheckOptions(const SqliteStoreOptions& options) {
  if (options.busy_timeout < absl::Milliseconds(1) || options.busy_timeout > absl::Minutes(10)) {
    return absl::InvalidArgumentError(absl::StrCat("busy_timeout is ",
                                                   absl::FormatDuration(options.busy_timeout),
                                                   ", 1 ms to 10 min are allowed"));
  }
  if (options.wal_bytes_max < (std::int64_t{1} << 20) ||
      options.wal_bytes_max > (std::int64_t{1} << 40)) {
    return absl::InvalidArgumentError(
        absl::StrCat("wal_bytes_max is ", options.wal_bytes_max, ", 1 MiB to 1 TiB are allowed"));
  }
  if (options.durability != Durability::kProcess && options.durability != Durability::kPower) {
    return absl::InvalidArgumentError(absl::StrCat("durability is ",
                                                   static_cast<int>(options.durability),
                                                   ", kProcess and kPower are allowed"));
  }
  return absl::OkStatus();
}

class SqliteStore final : public QuotaStore {
 public:
  SqliteStore(std::unique_ptr<SqliteDatabase> database, StoreInfo info)
      : database_(std::move(database)), info_(std::move(info)) {}

  const StoreInfo& info() const override { return info_; }

  absl::StatusOr<std::vector<Plan>> ReadPlans() override {
    return Read<std::vector<Plan>>(
        [](SqliteConnection& db) { return internal::SqliteReadPlans(db); });
  }

  absl::StatusOr<std::vector<KeyRecord>> FindKeys(std::span<const std::string> locators) override {
    return ReadEach(locators, &internal::SqliteFindKey);
  }

  absl::StatusOr<std::vector<KeyRecord>> ReadKeys(std::span<const std::string> key_ids) override {
    return ReadEach(key_ids, &internal::SqliteReadKey);
  }

  absl::StatusOr<Page<KeyRecord>> ListKeys(const KeyQuery& query) override {
    return Read<Page<KeyRecord>>(
        [&](SqliteConnection& db) { return internal::SqliteListKeys(db, query); });
  }

  absl::StatusOr<std::vector<std::int32_t>> ReadPepperVersions() override {
    return Read<std::vector<std::int32_t>>(
        [](SqliteConnection& db) { return internal::SqliteReadPepperVersions(db); });
  }

  absl::StatusOr<bool> HasImportedSecrets() override {
    return Read<bool>([](SqliteConnection& db) { return internal::SqliteHasImportedSecrets(db); });
  }

  absl::StatusOr<std::vector<WebhookRecord>> ListWebhooks(const WebhookQuery& query) override {
    return Read<std::vector<WebhookRecord>>(
        [&](SqliteConnection& db) { return internal::SqliteListWebhooks(db, query); });
  }

  absl::StatusOr<std::int64_t> Apply(const ChangeSet& changes) override {
    return Write<std::int64_t>([&](SqliteConnection& db) -> absl::StatusOr<std::int64_t> {
      THROTTL_ASSIGN_OR_RETURN(const bool applied, internal::SqliteWasApplied(db, changes.id));
      if (applied) return internal::SqliteLastSeq(db);
      THROTTL_RETURN_IF_ERROR(WriteChanges(db, changes));
      THROTTL_RETURN_IF_ERROR(CheckPlansOfKeys(db, changes));
      THROTTL_RETURN_IF_ERROR(internal::SqliteAppendEvents(db, changes.events));
      THROTTL_RETURN_IF_ERROR(internal::SqliteRememberChange(db, changes.id));
      return internal::SqliteLastSeq(db);
    });
  }

  absl::StatusOr<std::vector<Event>> ReadEvents(std::int64_t after_seq,
                                                std::int32_t count_max) override {
    return Read<std::vector<Event>>(
        [&](SqliteConnection& db) { return internal::SqliteReadEvents(db, after_seq, count_max); });
  }

  absl::StatusOr<std::vector<SettleReply>> Settle(const SettleBatch& batch) override {
    // Asked on the request path: must not wait for those that write.
    if (internal::SqliteOnlyAsks(batch)) {
      return Read<std::vector<SettleReply>>(
          [&](SqliteConnection& db) { return internal::SqliteAsk(db, batch); });
    }
    return Write<std::vector<SettleReply>>(
        [&](SqliteConnection& db) { return internal::SqliteSettle(db, batch); });
  }

  absl::StatusOr<std::vector<Counter>> ReadCounters(std::span<const CounterId> ids) override {
    return Read<std::vector<Counter>>(
        [&](SqliteConnection& db) -> absl::StatusOr<std::vector<Counter>> {
          std::vector<Counter> counters;
          for (const CounterId& id : ids) {
            THROTTL_ASSIGN_OR_RETURN(Counter counter, internal::SqliteReadCounter(db, id));
            counters.push_back(counter);
          }
          return counters;
        });
  }

  absl::StatusOr<absl::Time> ReadNewestTime() override {
    return Read<absl::Time>(
        [](SqliteConnection& db) { return internal::SqliteReadNewestTime(db); });
  }

  absl::Status RetireHolder(HolderId holder, LeaseState end) override {
    return database_->Write(
        [&](SqliteConnection& db) { return internal::SqliteRetireHolder(db, holder, end); });
  }

  absl::StatusOr<std::int64_t> EndPeriods(absl::Time now, std::int32_t rows_max) override {
    // Mostly nothing is due, and then no other process has to wait.
    THROTTL_ASSIGN_OR_RETURN(const std::vector<CounterId> due,
                             Read<std::vector<CounterId>>([&](SqliteConnection& db) {
                               return internal::SqliteReadDueCounters(db, now, 1);
                             }));
    if (due.empty()) return 0;
    return Write<std::int64_t>(
        [&](SqliteConnection& db) { return internal::SqliteEndPeriods(db, now, rows_max); });
  }

  absl::StatusOr<std::vector<UsageBucket>> ReadUsage(const UsageQuery& query) override {
    return Read<std::vector<UsageBucket>>(
        [&](SqliteConnection& db) { return internal::SqliteReadUsage(db, query); });
  }

  absl::StatusOr<Claimed> ClaimDeliveries(const DeliveryClaim& claim) override {
    return Write<Claimed>(
        [&](SqliteConnection& db) { return internal::SqliteClaimDeliveries(db, claim); });
  }

  absl::Status PutDeliveries(std::span<const Delivery> deliveries,
                             std::int64_t planned_seq) override {
    return database_->Write([&](SqliteConnection& db) {
      return internal::SqlitePutDeliveries(db, deliveries, planned_seq);
    });
  }

  absl::StatusOr<Page<Delivery>> ListDeliveries(const DeliveryQuery& query) override {
    return Read<Page<Delivery>>(
        [&](SqliteConnection& db) { return internal::SqliteListDeliveries(db, query); });
  }

  absl::StatusOr<std::int64_t> Prune(const PruneLimits& limits) override {
    return Write<std::int64_t>(
        [&](SqliteConnection& db) { return internal::SqlitePrune(db, limits); });
  }

  absl::Status Backup(std::string_view destination) override {
    return database_->ReadOutsideTransaction(
        [&](SqliteConnection& db) { return internal::SqliteBackup(db, std::string(destination)); });
  }

  void Suspend() override { database_->Suspend(); }

 private:
  // Run `body`, which answers a StatusOr<T>, inside a transaction.
  template <typename T, typename Body>
  absl::StatusOr<T> Read(const Body& body) {
    absl::StatusOr<T> answer = absl::UnknownError("");
    const absl::Status status = database_->Read([&](SqliteConnection& db) {
      answer = body(db);
      return answer.status();
    });
    if (!status.ok()) return status;
    return answer;
  }

  template <typename T, typename Body>
  absl::StatusOr<T> Write(const Body& body) {
    absl::StatusOr<T> answer = absl::UnknownError("");
    const absl::Status status = database_->Write([&](SqliteConnection& db) {
      answer = body(db);
      return answer.status();
    });
    if (!status.ok()) return status;
    return answer;
  }

  template <typename Finder>
  absl::StatusOr<std::vector<KeyRecord>> ReadEach(std::span<const std::string> names,
                                                  const Finder& find) {
    return Read<std::vector<KeyRecord>>(
        [&](SqliteConnection& db) -> absl::StatusOr<std::vector<KeyRecord>> {
          std::vector<KeyRecord> records;
          for (const std::string& name : names) {
            THROTTL_ASSIGN_OR_RETURN(std::optional<KeyRecord> record, find(db, name));
            if (record.has_value()) records.push_back(*std::move(record));
          }
          return records;
        });
  }

  const std::unique_ptr<SqliteDatabase> database_;
  const StoreInfo info_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<QuotaStore>> OpenSqliteStore(const SqliteStoreOptions& options) {
  THROTTL_RETURN_IF_ERROR(CheckOptions(options));
  THROTTL_ASSIGN_OR_RETURN(std::unique_ptr<SqliteDatabase> database, SqliteDatabase::Open(options));
  StoreInfo info{.kind = "sqlite",
                 .lease_path = absl::StrCat(database->path(), "-lease"),
                 .durability = options.durability};
  THROTTL_RETURN_IF_ERROR(database->Read([&](SqliteConnection& db) -> absl::Status {
    THROTTL_ASSIGN_OR_RETURN(info.store_id,
                             db.ReadText("SELECT value FROM meta WHERE name = 'store_id'"));
    return absl::OkStatus();
  }));
  return std::make_shared<SqliteStore>(std::move(database), std::move(info));
}

}  // namespace throttl

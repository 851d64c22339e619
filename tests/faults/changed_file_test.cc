// A store's files are removed, replaced or held by others while it is open.

#include <array>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "absl/strings/match.h"

#include "throttl/sqlite_store.h"

#include "src/store/sqlite/sqlite_database.h"
#include "tests/faults/fault_parts.h"
#include "tests/scale.h"

namespace throttl::testing {
namespace {

constexpr std::int64_t kTransactionBytesMax = 256 << 10;  // of the writes below, far below it

std::shared_ptr<QuotaStore> Open(const SqliteStoreOptions& options) {
  auto store = OpenSqliteStore(options);
  REQUIRE_MESSAGE(store.ok(), store.status().ToString());
  return *std::move(store);
}

// One call of a holder that has spent `used` of `subject`.
SettleBatch Spend(std::uint64_t holder, const std::string& subject, std::int64_t seq) {
  SettleBatch batch{.holder = HolderId{holder}, .now = absl::FromUnixSeconds(1'800'000'000)};
  SettleRow row{.counter = {.subject = subject}};
  row.seq = seq;
  // Each call reports the unit that the one before it was granted, and asks for the next.
  row.used = seq - 1;
  row.keep = seq - 1;
  row.want = 1;
  batch.rows.push_back(row);
  return batch;
}

TEST_CASE(
    "a file that was removed or replaced while open is refused, and the new one is untouched") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "throttl.db";
  const auto store = Open({.path = path});
  REQUIRE(store->Settle(Spend(1, "k", 1)).ok());
  REQUIRE(rename(path.c_str(), (scratch / "moved.db").c_str()) == 0);
  const auto expect_refusal = [&](const absl::Status& status) {
    CHECK(status.code() == absl::StatusCode::kFailedPrecondition);
    CHECK(absl::StrContains(status.message(), path + " was removed or replaced"));
  };
  expect_refusal(store->Settle(Spend(1, "k", 2)).status());
  expect_refusal(store->ReadPlans().status());
  CHECK(!std::filesystem::exists(path));

  WriteBytes(path, "another file");
  expect_refusal(store->Settle(Spend(1, "k", 2)).status());
  expect_refusal(store->ReadPlans().status());
  CHECK(ReadBytes(path) == "another file");

  REQUIRE(rename((scratch / "moved.db").c_str(), path.c_str()) == 0);
  CHECK(store->Settle(Spend(1, "k", 2)).ok());
  CHECK(Open({.path = path, .create = false})
            ->ReadCounters(std::vector<CounterId>{{"k"}})
            ->at(0)
            .charged == 2);
}

struct Ledger {
  std::array<std::atomic<std::int64_t>, 3> acknowledged = {};
  std::array<std::atomic<std::int64_t>, 3> errors = {};
  std::atomic<std::int64_t> gates_removed = 0;
  std::atomic<bool> go = false;
};

// Settles as often as told; the ledger knows what the store has acknowledged.
int SpendAll(const std::string& path, std::size_t process, std::int64_t calls, Ledger& ledger) {
  auto store = OpenSqliteStore({.path = path});
  if (!store.ok()) return 1;
  while (!ledger.go) sched_yield();
  for (std::int64_t seq = 1; seq <= calls; ++seq) {
    const auto replies = (*store)->Settle(Spend(process + 1, "shared", seq));
    if (replies.ok() && replies->at(0).code == SettleCode::kApplied) {
      ledger.acknowledged[process] = replies->at(0).allowance;
    } else {
      ++ledger.errors[process];
    }
  }
  return 0;
}

TEST_CASE("the gate's file is removed while processes write: no update is lost") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "throttl.db";
  const std::int64_t calls = Scaled(3000);
  const SharedWithChildren<Ledger> ledger;
  Open({.path = path});
  std::vector<pid_t> children;
  for (std::size_t i = 0; i < 3; ++i) {
    children.push_back(StartChild([&, i] { return SpendAll(path, i, calls, *ledger); }));
  }
  ledger->go = true;
  const auto done = [&] {
    std::int64_t sum = 0;
    for (const auto& one : ledger->acknowledged) sum += one;
    for (const auto& one : ledger->errors) sum += one;
    return sum >= 3 * calls;
  };
  while (!done()) {
    if (unlink((path + "-gate").c_str()) == 0) ++ledger->gates_removed;
    usleep(200);
  }
  for (const pid_t child : children) CHECK(WaitForChild(child) == "exit 0");
  for (const auto& errors : ledger->errors) CHECK(errors == 0);

  const auto counter = Open({.path = path})->ReadCounters(std::vector<CounterId>{{"shared"}});
  REQUIRE(counter.ok());
  CHECK(counter->at(0).charged == 3 * calls);
  CHECK(counter->at(0).used == 3 * (calls - 1));
  CHECK(PlainSqlite(path).Run("PRAGMA integrity_check") == "ok");
  CHECK(ledger->gates_removed > 0);
  MESSAGE(absl::StrCat("the gate was removed ", ledger->gates_removed.load(), " times in ",
                       3 * calls, " writes"));
}

// A reader in another process, which looks at one state until it is let go.
class ForeignReader {
 public:
  explicit ForeignReader(const std::string& path)
      : child_(StartChild([this, path] {
          PlainSqlite reader(path);
          reader.Run("BEGIN; SELECT count(*) FROM counter");
          state_->reading = true;
          while (!state_->leave) usleep(1000);
          return 0;
        })) {
    REQUIRE(WaitUntil([this] { return state_->reading.load(); }));
  }
  ~ForeignReader() { Leave(); }
  void Leave() {
    state_->leave = true;
    if (child_ != 0) CHECK(WaitForChild(child_) == "exit 0");
    child_ = 0;
  }

 private:
  struct State {
    std::atomic<bool> reading = false;
    std::atomic<bool> leave = false;
  };
  const SharedWithChildren<State> state_;
  pid_t child_;
};

TEST_CASE("a reader of another process holds the log open: its bound holds, then writes go on") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "throttl.db";
  const std::int64_t writes = Scaled(20'000);
  // Eight thirteenths of what the writes would need at two pages each.
  const std::int64_t bound = std::max<std::int64_t>(1 << 20, writes * 5000);
  constexpr absl::Duration kBusyTimeout = absl::Seconds(20);
  const auto store = Open({.path = path, .busy_timeout = kBusyTimeout, .wal_bytes_max = bound});
  REQUIRE(store->Settle(Spend(1, "k", 1)).ok());
  ForeignReader reader(path);

  std::int64_t done = 1;
  std::int64_t refused = 0;
  absl::Duration refusing;
  std::uintmax_t largest = 0;
  for (std::int64_t i = 0; i < writes + 1000 && refused < 5; ++i) {
    const absl::Time start = absl::Now();
    const absl::Status status = store->Settle(Spend(1, "k", done + 1)).status();
    if (!status.ok()) refusing += absl::Now() - start;
    largest = std::max(largest, std::filesystem::file_size(path + "-wal"));
    if (status.ok()) {
      ++done;
      continue;
    }
    ++refused;
    REQUIRE_MESSAGE(status.code() == absl::StatusCode::kResourceExhausted, status.ToString());
    CHECK(absl::StrContains(status.message(), absl::StrCat(path, "-wal")));
    CHECK(absl::StrContains(status.message(), absl::StrCat("at most ", bound, " are allowed")));
    CHECK(absl::StrContains(status.message(), "a reader holds it open"));
  }
  CHECK(refused == 5);
  CHECK(refusing < kBusyTimeout);  // the gate is held meanwhile, so others wait no longer than that
  CHECK(largest <= static_cast<std::uintmax_t>(bound + kTransactionBytesMax));
  CHECK(store->ReadCounters(std::vector<CounterId>{{"k"}}).ok());

  reader.Leave();
  CHECK(store->Settle(Spend(1, "k", done + 1)).ok());
  CHECK(std::filesystem::file_size(path + "-wal") < static_cast<std::uintmax_t>(bound / 2));
  const auto counter = store->ReadCounters(std::vector<CounterId>{{"k"}});
  REQUIRE(counter.ok());
  CHECK(counter->at(0).charged == done + 1);
  MESSAGE(
      absl::StrCat(done, " writes until the bound of ", bound, " bytes; the log had ", largest));
}

TEST_CASE("without such a reader 20,000 writes leave a small log") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "throttl.db";
  const auto store = Open({.path = path, .wal_bytes_max = 4 << 20});
  std::uintmax_t largest = 0;
  const std::int64_t writes = Scaled(20'000);
  for (std::int64_t i = 1; i <= writes; ++i) {
    REQUIRE(store->Settle(Spend(1, "k", i)).ok());
    largest = std::max(largest, std::filesystem::file_size(path + "-wal"));
  }
  CHECK(largest < (2 << 20) + kTransactionBytesMax);
  MESSAGE(absl::StrCat("the log had at most ", largest, " bytes"));
}

absl::Status AddEvent(internal::SqliteDatabase& database, std::int64_t number) {
  return database.Write([number](internal::SqliteConnection& db) {
    internal::SqliteStatement put(db, "INSERT INTO event VALUES(?1, ?1, '', 0, '', '', '', '')");
    return put.Bind(number).Finish();
  });
}

// A write that finds the log at its bound works with SQLite's patience for a moment.
TEST_CASE("a handle that has emptied the log is as patient as before") {
  const ScratchDirectory scratch;
  const SqliteStoreOptions options{.path = scratch / "throttl.db",
                                   .busy_timeout = absl::Milliseconds(4321),
                                   .wal_bytes_max = 1 << 20};
  auto database = internal::SqliteDatabase::Open(options);
  REQUIRE(database.ok());
  const std::string log = options.path + "-wal";
  ForeignReader reader(options.path);
  std::int64_t number = 0;
  while (internal::FileBytes(log) < options.wal_bytes_max) {
    REQUIRE(AddEvent(**database, ++number).ok());
  }
  reader.Leave();
  std::int64_t patience_ms = 0;
  CHECK((*database)
            ->Write([&](internal::SqliteConnection& db) {
              patience_ms = *db.ReadNumber("PRAGMA busy_timeout");
              return absl::OkStatus();
            })
            .ok());
  CHECK(internal::FileBytes(log) < options.wal_bytes_max);  // it was emptied
  CHECK(patience_ms == 4321);
}

// A read that would go on for half a minute.
absl::Status ReadForever(internal::SqliteDatabase& database, std::atomic<bool>& reading) {
  return database.Read([&](internal::SqliteConnection& db) {
    const auto first = db.ReadNumber("SELECT count(*) FROM counter");
    reading = true;
    if (!first.ok()) return first.status();
    return db
        .ReadNumber(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200000000) "
            "SELECT count(*) FROM n")
        .status();
  });
}

// Writes by `writer` until a read of `database` is cut, and says how that came.
std::string WriteUntilCut(internal::SqliteDatabase& database,
                          const std::function<absl::Status(std::int64_t)>& write) {
  std::atomic<bool> reading = false;
  std::atomic<bool> ended = false;
  absl::Status cut;
  std::thread reader([&] {
    cut = ReadForever(database, reading);
    ended = true;
  });
  while (!reading) sched_yield();
  std::int64_t writes = 0;
  absl::Status status;
  while (!ended && status.ok() && writes < 20'000) status = write(++writes);
  reader.join();
  CHECK_MESSAGE(status.ok(), status.ToString());
  MESSAGE(absl::StrCat("cut after ", writes, " writes"));
  return cut.ToString();
}

TEST_CASE("a read of this process that holds the log open past half of its bound is cut") {
  const ScratchDirectory scratch;
  const SqliteStoreOptions options{.path = scratch / "throttl.db", .wal_bytes_max = 1 << 20};
  const auto store = Open(options);
  auto database = internal::SqliteDatabase::Open(options);
  REQUIRE(database.ok());
  const std::string cut = WriteUntilCut(**database, [&](std::int64_t number) {
    if (internal::FileBytes(options.path + "-wal") < options.wal_bytes_max * 3 / 4) {
      return AddEvent(**database, number);
    }
    usleep(1000);  // the read may take a while to notice that it is cut
    return absl::OkStatus();
  });
  CHECK(absl::StartsWith(cut, "UNAVAILABLE: "));
  CHECK(absl::StrContains(cut, "interrupted"));
  CHECK(store->ReadPlans().ok());
}

// Another process writes, and cannot cut what it does not see.
TEST_CASE("a read of this process is cut at the bound by its first write that finds no room") {
  const ScratchDirectory scratch;
  const SqliteStoreOptions options{.path = scratch / "throttl.db", .wal_bytes_max = 1 << 20};
  auto database = internal::SqliteDatabase::Open(options);
  auto other = internal::SqliteDatabase::Open(options);
  REQUIRE(database.ok());
  REQUIRE(other.ok());
  const std::string cut = WriteUntilCut(**database, [&](std::int64_t number) {
    if (internal::FileBytes(options.path + "-wal") < options.wal_bytes_max) {
      return AddEvent(**other, number);
    }
    // It may be refused until the read has noticed.
    const absl::Status status = AddEvent(**database, number);
    return absl::IsResourceExhausted(status) ? absl::OkStatus() : status;
  });
  CHECK(absl::StartsWith(cut, "UNAVAILABLE: "));
}

}  // namespace
}  // namespace throttl::testing

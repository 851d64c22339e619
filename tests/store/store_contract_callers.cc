// The store contract: many callers at once, threads and processes.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <latch>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "tests/scale.h"
#include "tests/store/store_contract_parts.h"

namespace throttl::testing {
namespace {

// doctest's checks are for its own thread: others leave here what went wrong.
class Troubles {
 public:
  void Add(const std::string& trouble) {
    const std::lock_guard lock(mutex_);
    if (all_.size() < 20) all_.push_back(trouble);
  }
  bool Unless(const absl::Status& status, const std::string& what) {
    if (!status.ok()) Add(absl::StrCat(what, ": ", status.ToString()));
    return status.ok();
  }
  void Check() const {
    for (const std::string& trouble : all_) FAIL_CHECK(trouble);
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> all_;
};

// They begin together: else the first may be done before the last is made.
void RunThreads(int count, const std::function<void(int)>& work) {
  std::latch start(count);
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&start, &work, i] {
      start.arrive_and_wait();
      work(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// What one worker was told OK for. In memory that processes share, so fixed in size.
struct Ledger {
  std::int64_t keys = 0;
  std::int64_t increments = 0;
  std::int64_t used = 0;
  std::int64_t allowance = 0;
  char trouble[256] = {};

  bool Unless(const absl::Status& status, const char* what) {
    if (status.ok()) return true;
    std::snprintf(trouble, sizeof(trouble), "%s: %s", what, status.ToString().c_str());
    return false;
  }
};

constexpr std::int64_t kSharedLimit = 1'000'000;
const char* const kSharedKey = "shared";

void FurnishShared(QuotaStore& store) {
  KeyRecord shared = NewKey(kSharedKey, "free");
  shared.key.metadata = absl::StrCat(0);
  MustApply(store, {.put_plans = {NewPlan("free")}, .put_keys = {shared}});
}

// Adds 1 to the number in the shared key's metadata, by read, modify and write.
absl::Status Increment(QuotaStore& store, int worker) {
  const std::vector<std::string> ids = {kSharedKey};
  for (int attempt = 0; attempt < 100'000; ++attempt) {
    auto records = store.ReadKeys(ids);
    if (!records.ok()) return records.status();
    if (records->size() != 1) return absl::DataLossError("the shared key is not there");
    KeyRecord record = std::move(records->front());
    record.key.metadata = absl::StrCat(std::atoll(record.key.metadata.c_str()) + 1);
    ++record.key.version;
    ChangeSet changes{.id = UniqueId(), .put_keys = {record}};
    changes.events = {NewEvent(absl::StrCat("inc-", worker, "-", changes.id))};
    const absl::Status status = ApplyRepeating(store, changes).status();
    if (!absl::IsAborted(status)) return status;
  }
  return absl::DeadlineExceededError("the version differed each time");
}

SettleBatch WorkerBatch(int worker, const Ledger& ledger, std::int64_t round) {
  SettleBatch batch{.holder = HolderId{1000 + static_cast<std::uint64_t>(worker)}, .now = At(5)};
  SettleRow row = NewRow("shared", round + 1, ledger.allowance, ledger.allowance, 5);
  row.limit = kSharedLimit;
  batch.rows = {row};
  batch.usage = {{kSharedKey, {.start = At(0), .allowed = round + 1, .units = ledger.allowance}}};
  return batch;
}

void Work(QuotaStore& store, int worker, std::int64_t rounds, Ledger& ledger) {
  for (std::int64_t round = 0; round < rounds; ++round) {
    const std::string id = absl::StrCat("w", worker, "-", round);
    ChangeSet changes{.id = UniqueId(), .put_keys = {NewKey(id, "free", "acme", round)}};
    changes.events = {NewEvent(absl::StrCat("made-", id))};
    if (!ledger.Unless(ApplyRepeating(store, changes).status(), "Apply of a new key")) return;
    ++ledger.keys;
    if (!ledger.Unless(Increment(store, worker), "Increment")) return;
    ++ledger.increments;
    const SettleBatch batch = WorkerBatch(worker, ledger, round);
    const auto replies = SettleRepeating(store, batch);
    if (!ledger.Unless(replies.status(), "Settle")) return;
    ledger.used = ledger.allowance;
    ledger.allowance = replies->front().allowance;
    const std::vector<std::string> locators = {absl::StrCat("loc-", id)};
    const auto found = store.FindKeys(locators);
    if (!ledger.Unless(found.status(), "FindKeys")) return;
    if (found->size() != 1) {
      ledger.Unless(absl::DataLossError(id), "a key that was acknowledged is not found");
      return;
    }
    if (!ledger.Unless(store.ListKeys({.count_max = 3}).status(), "ListKeys")) return;
    if (!ledger.Unless(store.ReadEvents(round, 5).status(), "ReadEvents")) return;
    if (!ledger.Unless(store.ReadUsage({.key_id = kSharedKey}).status(), "ReadUsage")) return;
  }
}

// What is stored is exactly what was acknowledged.
void CheckLedgers(QuotaStore& store, std::span<const Ledger> ledgers, std::int64_t rounds) {
  Ledger sum;
  for (std::size_t worker = 0; worker < ledgers.size(); ++worker) {
    const Ledger& ledger = ledgers[worker];
    const std::string trouble = ledger.trouble;
    CHECK_MESSAGE(trouble.empty(), trouble);
    CHECK(ledger.keys == rounds);
    sum.keys += ledger.keys;
    sum.increments += ledger.increments;
    sum.used += ledger.used;
    sum.allowance += ledger.allowance;
  }
  const auto all = Must(ListAllKeys(store, {.count_max = 100}));
  CHECK(static_cast<std::int64_t>(all.size()) == sum.keys + 1);
  std::set<std::string> ids;
  for (const KeyRecord& record : all) ids.insert(record.key.id);
  for (std::size_t worker = 0; worker < ledgers.size(); ++worker) {
    for (std::int64_t round = 0; round < ledgers[worker].keys; ++round) {
      CHECK(ids.contains(absl::StrCat("w", worker, "-", round)));
    }
  }
  const std::vector<std::string> shared = {kSharedKey};
  const KeyRecord record = Must(store.ReadKeys(shared))[0];
  CHECK(record.key.metadata == absl::StrCat(sum.increments));
  CHECK(record.key.version == sum.increments + 1);
  const std::vector<CounterId> counters = {{"shared", At(0)}};
  const Counter counter = Must(store.ReadCounters(counters))[0];
  CHECK(counter.used == sum.used);
  CHECK(counter.charged == sum.allowance);
  CHECK(counter.open_leases == static_cast<std::int32_t>(ledgers.size()));
  CHECK(Must(store.ReadUsage({.key_id = kSharedKey}))[0].allowed ==
        rounds * static_cast<std::int64_t>(ledgers.size()));
  std::set<std::string> events;
  for (const Event& event : Must(ReadAllEvents(store, 0))) {
    CHECK_MESSAGE(events.insert(event.id).second, event.id);
  }
  CHECK(static_cast<std::int64_t>(events.size()) == sum.keys + sum.increments);
}

void EightThreads(const StoreUnderTest& under) {
  const auto store = under.open_new();
  FurnishShared(*store);
  std::array<Ledger, 8> ledgers;
  const std::int64_t rounds = Scaled(100);
  RunThreads(8, [&](int i) { Work(*store, i, rounds, ledgers[static_cast<std::size_t>(i)]); });
  CheckLedgers(*store, ledgers, rounds);
}

// Before fork the parent has neither threads nor an open store: each child opens its own.
void FourProcesses(const StoreUnderTest& under) {
#if defined(__SANITIZE_THREAD__)
  return Skip(under, "processes, under ThreadSanitizer");
#endif
  if (!under.reopen) return Skip(under, "processes: the store belongs to one");
  FurnishShared(*under.open_new());
  constexpr std::size_t kProcesses = 4;
  void* memory = mmap(nullptr, sizeof(Ledger) * kProcesses, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  const std::span<Ledger> ledgers(static_cast<Ledger*>(memory), kProcesses);
  const std::int64_t rounds = Scaled(50);
  std::vector<pid_t> children;
  for (std::size_t i = 0; i < kProcesses; ++i) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      Work(*under.reopen(), static_cast<int>(i), rounds, ledgers[i]);
      _exit(0);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
  CheckLedgers(*under.reopen(), ledgers, rounds);
  munmap(memory, sizeof(Ledger) * kProcesses);
}

void ReadSeesWrite(const StoreUnderTest& under) {
  const auto store = under.open_new();
  const auto other = under.reopen ? under.reopen() : store;
  MustApply(*store, {.put_plans = {NewPlan("free")}});
  Troubles troubles;
  std::atomic<std::int64_t> written = -1;
  const std::int64_t count = Scaled(200);
  RunThreads(3, [&](int thread) {
    if (thread == 0) {
      for (std::int64_t i = 0; i < count; ++i) {
        ChangeSet changes{.id = UniqueId(), .put_keys = {NewKey(absl::StrCat("k", i), "free")}};
        if (!troubles.Unless(ApplyRepeating(*store, changes).status(), "Apply")) break;
        written = i;
      }
      written = count;
      return;
    }
    QuotaStore& reader = thread == 1 ? *store : *other;
    for (std::int64_t i = written; i < count; i = written) {
      if (i < 0) continue;
      const std::vector<std::string> ids = {absl::StrCat("k", i)};
      const auto found = reader.ReadKeys(ids);
      if (!troubles.Unless(found.status(), "ReadKeys")) return;
      if (found->empty()) return troubles.Add(absl::StrCat(ids[0], " was written and not read"));
    }
  });
  troubles.Check();
  CHECK(Must(ListAllKeys(*store, {})).size() == static_cast<std::size_t>(count));
}

// Pages while four threads insert, at random ages.
void NoneComesTwice(const StoreUnderTest& under) {
  const auto store = under.open_new();
  ChangeSet changes{.put_plans = {NewPlan("free")}};
  for (int i = 0; i < 100; ++i) {
    changes.put_keys.push_back(NewKey(absl::StrCat("old", i), "free", "acme", i * 10));
  }
  MustApply(*store, changes);
  Troubles troubles;
  std::atomic<int> writing = 4;
  const std::int64_t count = Scaled(100);
  const std::uint32_t seed = 20260102;
  INFO("seed ", seed);
  RunThreads(5, [&](int thread) {
    if (thread < 4) {
      std::mt19937 rng(seed + static_cast<std::uint32_t>(thread));
      for (std::int64_t i = 0; i < count; ++i) {
        const std::string id = absl::StrCat("t", rng() % 1000, "-", thread, "-", i);
        ChangeSet one{
            .id = UniqueId(),
            .put_keys = {NewKey(id, "free", "acme", static_cast<std::int64_t>(rng() % 1000))}};
        if (!troubles.Unless(ApplyRepeating(*store, one).status(), "Apply")) break;
      }
      --writing;
      return;
    }
    bool last = false;
    while (!last) {
      last = writing == 0;
      const auto all = ListAllKeys(*store, {.count_max = 7});
      if (!troubles.Unless(all.status(), "ListKeys")) return;
      std::set<std::string> ids;
      std::size_t old = 0;
      for (const KeyRecord& record : *all) {
        old += record.key.id.starts_with("old") ? 1u : 0u;
        if (!ids.insert(record.key.id).second)
          troubles.Add(absl::StrCat(record.key.id, " came twice"));
      }
      if (old != 100)
        troubles.Add(absl::StrCat(old, " of 100 keys that did not change were listed"));
      if (last && ids.size() != 100 + static_cast<std::size_t>(4 * count)) {
        troubles.Add("the last pass does not list every key");
      }
    }
  });
  troubles.Check();
}

// Four writers by Apply and Settle; one reader that follows the log.
void CommitOrder(const StoreUnderTest& under) {
  const auto store = under.open_new();
  const auto other = under.reopen ? under.reopen() : store;
  Troubles troubles;
  std::atomic<int> writing = 4;
  const std::int64_t count = Scaled(100);
  std::vector<std::string> followed;
  RunThreads(5, [&](int thread) {
    if (thread < 4) {
      for (std::int64_t i = 0; i < count; ++i) {
        ChangeSet changes = NewChanges();
        changes.events = {NewEvent(absl::StrCat("e", thread, "-", i, "a")),
                          NewEvent(absl::StrCat("e", thread, "-", i, "b"))};
        if (!troubles.Unless(ApplyRepeating(*store, changes).status(), "Apply")) break;
        SettleBatch batch{.holder = HolderId{static_cast<std::uint64_t>(thread) + 1}, .now = At(5)};
        const std::string subject = absl::StrCat("k:", thread, ":", i);
        batch.rows = {NewRow(subject, 1, 0, 0, 100)};
        if (!troubles.Unless(SettleRepeating(*store, batch).status(), "Settle")) break;
        batch.rows = {NewRow(subject, 2, 50, 100, 0)};
        if (!troubles.Unless(SettleRepeating(*store, batch).status(), "Settle")) break;
      }
      --writing;
      return;
    }
    std::int64_t seq = 0;
    bool last = false;
    while (!last) {
      last = writing == 0;
      const auto events = ReadAllEvents(*other, seq);
      if (!troubles.Unless(events.status(), "ReadEvents")) return;
      for (const Event& event : *events) {
        if (event.seq <= seq) troubles.Add("a smaller seq came later");
        seq = event.seq;
        followed.push_back(Dump(event));
      }
    }
  });
  troubles.Check();
  // Who followed has seen all of it: nothing was put in behind his back.
  std::vector<std::string> log;
  for (const Event& event : Must(ReadAllEvents(*store, 0))) log.push_back(Dump(event));
  CHECK(followed == log);
  CHECK(log.size() == static_cast<std::size_t>(12 * count));
}

void EachToOneClaim(const StoreUnderTest& under) {
  const auto store = under.open_new();
  if (absl::IsUnimplemented(store->ListDeliveries({}).status())) return Skip(under, "deliveries");
  constexpr std::size_t kCount = 1000;
  ChangeSet changes = NewChanges();
  for (std::size_t i = 0; i < kCount; ++i) changes.events.push_back(NewEvent(absl::StrCat("e", i)));
  MustApply(*store, changes);
  std::vector<Delivery> planned;
  for (const Event& event : Must(ReadAllEvents(*store, 0))) {
    planned.push_back(
        {.id = absl::StrCat(event.id, ".w"), .destination = "w", .event = event, .due_at = At(1)});
  }
  REQUIRE(store->PutDeliveries(planned, 1).ok());
  Troubles troubles;
  std::mutex mutex;
  std::map<std::string, int> handed_out;
  RunThreads(4, [&](int thread) {
    for (std::uint64_t call = 1; call <= kCount; ++call) {
      const DeliveryClaim claim{.claim = call * 10 + static_cast<std::uint64_t>(thread),
                                .now = At(2),
                                .until = At(60),
                                .count_max = 3};
      auto claimed = store->ClaimDeliveries(claim);
      for (int i = 0; i < 100 && absl::IsUnavailable(claimed.status()); ++i) {
        claimed = store->ClaimDeliveries(claim);
      }
      if (!troubles.Unless(claimed.status(), "ClaimDeliveries")) return;
      if (claimed->deliveries.empty()) return;
      const std::lock_guard lock(mutex);
      for (const Delivery& delivery : claimed->deliveries) ++handed_out[delivery.id];
    }
  });
  troubles.Check();
  CHECK(handed_out.size() == kCount);
  for (const auto& entry : handed_out) CHECK_MESSAGE(entry.second == 1, entry.first);
}

void CopyInUse(const StoreUnderTest& under) {
  const auto store = under.open_new();
  if (!under.backup_destination) {
    const absl::Status status = store->Backup("nowhere");
    CHECK_MESSAGE(absl::IsUnimplemented(status), status.ToString());
    CHECK(status.message().find(store->info().kind) != absl::string_view::npos);
    return Skip(under, "Backup");
  }
  FurnishShared(*store);
  for (int i = 0; i < 20; ++i)
    MustApply(*store, {.put_keys = {NewKey(absl::StrCat("p", i), "free")}});
  Troubles troubles;
  std::atomic<bool> copied = false;
  const std::string destination = under.backup_destination();
  absl::Status status;
  RunThreads(2, [&](int thread) {
    if (thread == 0) {
      status = store->Backup(destination);
      copied = true;
      return;
    }
    // Pairs that a consistent copy holds both of, or neither.
    for (int i = 0; !copied || i < 10; ++i) {
      ChangeSet pair{.id = UniqueId()};
      pair.put_keys = {NewKey(absl::StrCat("a", i), "free", "left"),
                       NewKey(absl::StrCat("b", i), "free", "right")};
      if (!troubles.Unless(ApplyRepeating(*store, pair).status(), "Apply")) return;
    }
  });
  troubles.Check();
  REQUIRE_MESSAGE(status.ok(), status.ToString());
  const auto copy = under.open_copy(destination);
  REQUIRE(copy != nullptr);
  CHECK(Must(ListAllKeys(*copy, {.owner_id = "acme"})).size() == 21);
  CHECK(Must(ListAllKeys(*copy, {.owner_id = "left"})).size() ==
        Must(ListAllKeys(*copy, {.owner_id = "right"})).size());
  const std::string before = Snapshot(*store);
  MustApply(*copy, {.put_keys = {NewKey("only-in-the-copy", "free")}});
  CHECK(Snapshot(*store) == before);
}

}  // namespace

std::span<const StorePromise> CallerPromises() {
  static constexpr std::array kPromises = {
      StorePromise{"Thread safety: any method from any thread at any time", &EightThreads},
      StorePromise{"Thread safety: any method from any thread at any time (processes)",
                   &FourProcesses},
      StorePromise{"A read sees every write that returned before it began", &ReadSeesWrite},
      StorePromise{"A key made or changed meanwhile may be missed, none comes twice",
                   &NoneComesTwice},
      StorePromise{"When an event is seen, no event with a smaller seq appears afterwards",
                   &CommitOrder},
      StorePromise{"each to one claim until `until` (threads)", &EachToOneClaim},
      StorePromise{"A consistent copy while in use", &CopyInUse},
  };
  return kPromises;
}

}  // namespace throttl::testing

// Damaged files: whatever is read from them is an error or the truth.

#include <array>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <deque>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

#include "throttl/sqlite_store.h"

#include "tests/faults/damage_parts.h"
#include "tests/faults/fault_parts.h"
#include "tests/scale.h"
#include "tests/store/store_contract_parts.h"

namespace throttl::testing {
namespace {

constexpr std::size_t kCodes = 17;
constexpr std::int64_t kSeedsPerProcess = 50;
constexpr std::size_t kProcesses = 2;

enum class Target : std::uint8_t { kFile = 0, kLog = 1 };

using Counts = std::array<std::atomic<std::int64_t>, kCodes>;

// What the workers found, in memory that they share.
struct Findings {
  std::array<std::array<Counts, kDamageKinds>, 2> opened = {};  // by the code of opening
  Counts calls = {};                                            // by the code of each call
  std::atomic<std::int64_t> right = 0;                          // records read as they were stored
  std::atomic<std::int64_t> gone = 0;                           // looked up, and not there
  std::atomic<std::int64_t> counters_gone = 0;                  // not there when they settled
  std::array<std::atomic<std::int64_t>, kProcesses> seed = {};  // being worked on
  std::atomic<int> wrong = 0;
  std::array<std::array<char, 2000>, 20> wrongs = {};
  std::atomic<int> internal = 0;
  std::array<std::array<char, 300>, 20> internals = {};
};

template <std::size_t kTexts, std::size_t kBytes>
void Note(std::atomic<int>& count, std::array<std::array<char, kBytes>, kTexts>& texts,
          const std::string& text) {
  const auto place = static_cast<std::size_t>(count++);
  if (place < kTexts) std::snprintf(texts.at(place).data(), kBytes, "%s", text.c_str());
}

// Asks one damaged store everything.
class Examination {
 public:
  Examination(const DamageStore& made, std::int64_t seed, Target target, Findings& findings)
      : made_(made),
        findings_(findings),
        seed_(seed),
        // A log that ends early is the state before; a file has but one.
        possible_{made.file_commits,
                  1 + (target == Target::kLog ? made.commits : made.file_commits)} {}

  void Run(QuotaStore& store) {
    Read(store);
    const auto replies = store.Settle(DamageSettle());
    if (Answered(replies) && Dump(replies->at(0)) != made_.settle_reply) {
      // Where neither the counter nor the lease is found, there is nothing of which to keep.
      if (replies->at(0).code != SettleCode::kInvalid) Wrong("settled: ", Dump(replies->at(0)));
      ++findings_.counters_gone;
    }
    const KeyRecord added = DamageKey(99);
    ChangeSet changes{.id = "added", .put_keys = {added}, .events = {NewEvent("added")}};
    if (Answered(store.Apply(changes))) {
      const auto found = store.ReadKeys(std::vector<std::string>{added.key.id});
      if (Answered(found) && !found->empty() && SettingsText(found->at(0)) != SettingsText(added)) {
        Wrong("the added key is ", SettingsText(found->at(0)));
      }
    }
    List(store);
  }

 private:
  void Read(QuotaStore& store) {
    for (const auto& [locator, key_id] : made_.key_of_locator) {
      const auto found = store.FindKeys(std::vector<std::string>{locator});
      if (Answered(found)) CheckFound(*found, locator, key_id);
    }
    const auto unknown = store.FindKeys(made_.unknown_locators);
    if (Answered(unknown) && !unknown->empty()) {
      Wrong("an unknown locator found ", SettingsText(unknown->at(0)));
    }
    for (std::size_t i = 0; i + 6 <= made_.key_ids.size(); i += 6) {
      const auto found = store.ReadKeys(std::span(made_.key_ids).subspan(i, 6));
      if (Answered(found)) CheckRecords(*found);
    }
    List(store);
    const auto plans = store.ReadPlans();
    if (Answered(plans)) {
      for (const Plan& plan : *plans) CheckText(SettingsText(plan));
    }
    Answered(store.ReadEvents(0, kStoreBatchMax));
  }

  void List(QuotaStore& store) {
    const auto listed = store.ListKeys({.count_max = 1000});
    if (Answered(listed)) CheckRecords(listed->items);
    const auto live = store.ListKeys({.owner_id = "acme", .include_revoked = false});
    if (Answered(live)) CheckRecords(live->items);
  }

  void CheckFound(const std::vector<KeyRecord>& found, const std::string& locator,
                  const std::string& key_id) {
    CheckRecords(found);
    if (found.empty()) ++findings_.gone;
    for (const KeyRecord& record : found) {
      if (record.key.id != key_id) Wrong("locator " + locator + " found ", record.key.id);
    }
  }

  void CheckRecords(const std::vector<KeyRecord>& records) {
    for (const KeyRecord& record : records) {
      if (record.key.id != DamageKey(99).key.id) CheckText(SettingsText(record));
    }
  }

  // `text` must be a state that some commit has left, and all texts that are seen must be of one.
  void CheckText(const std::string& text) {
    const auto known = made_.when.find(text);
    if (known == made_.when.end()) return Wrong("never stored: ", text);
    possible_.first = std::max(possible_.first, known->second.first);
    possible_.end = std::min(possible_.end, known->second.end);
    if (possible_.first >= possible_.end) return Wrong("of another time: ", text);
    ++findings_.right;
  }

  template <typename T>
  bool Answered(const absl::StatusOr<T>& result) {
    ++findings_.calls.at(static_cast<std::size_t>(result.status().code()));
    if (absl::IsInternal(result.status()) && !internal_noted_) {
      internal_noted_ = true;
      Note(findings_.internal, findings_.internals,
           absl::StrCat("seed ", seed_, ": ", result.status().ToString()));
    }
    return result.ok();
  }

  void Wrong(const std::string& what, const std::string& text) {
    Note(findings_.wrong, findings_.wrongs, absl::StrCat("seed ", seed_, ": ", what, text));
  }

  const DamageStore& made_;
  Findings& findings_;
  std::int64_t seed_;
  CommitRange possible_;
  bool internal_noted_ = false;
};

void ExamineSeed(const DamageStore& made, const std::string& path, std::int64_t seed,
                 Findings& findings) {
  std::mt19937_64 random(static_cast<std::uint64_t>(seed));
  const Target target = random() % 4 == 0 ? Target::kLog : Target::kFile;
  const auto kind = static_cast<DamageKind>(random() % kDamageKinds);
  std::string file = target == Target::kLog ? made.file_with_log : made.file;
  std::string log = target == Target::kLog ? made.log : std::string();
  Damage(kind, random, target == Target::kLog ? log : file);
  for (const char* ending : {"-wal", "-shm"}) unlink((path + ending).c_str());
  WriteBytes(path, file);
  if (target == Target::kLog) WriteBytes(path + "-wal", log);
  const auto store = OpenSqliteStore({.path = path, .busy_timeout = absl::Milliseconds(100)});
  ++findings.opened.at(static_cast<std::size_t>(target))
        .at(static_cast<std::size_t>(kind))
        .at(static_cast<std::size_t>(store.status().code()));
  if (absl::IsInternal(store.status())) {
    Note(findings.internal, findings.internals,
         absl::StrCat("seed ", seed, ": ", store.status().ToString()));
  }
  if (store.ok()) Examination(made, seed, target, findings).Run(**store);
}

// The body of a worker: a crash ends it by a signal, and so does the alarm when it hangs.
int ExamineSeeds(const DamageStore& made, const std::string& path, std::int64_t first,
                 std::int64_t end, std::atomic<std::int64_t>& at, Findings& findings) {
  for (std::int64_t seed = first; seed < end; ++seed) {
    at = seed;
    alarm(60);
    ExamineSeed(made, path, seed, findings);
  }
  return 0;
}

void ExamineAll(const DamageStore& made, const ScratchDirectory& scratch, std::int64_t seeds,
                Findings& findings) {
  struct Worker {
    pid_t child;
    std::size_t place;
  };
  std::deque<Worker> workers;
  const auto end_first = [&] {
    const std::string end = WaitForChild(workers.front().child);
    CHECK_MESSAGE(end == "exit 0",
                  absl::StrCat(end, " at seed ", findings.seed[workers.front().place].load()));
    workers.pop_front();
  };
  std::size_t place = 0;
  for (std::int64_t first = 0; first < seeds; first += kSeedsPerProcess) {
    if (workers.size() == kProcesses) end_first();
    place = (place + 1) % kProcesses;
    const std::string path = scratch / absl::StrCat("damaged", place, ".db");
    const std::int64_t end = std::min(first + kSeedsPerProcess, seeds);
    workers.push_back({StartChild([&] {
                         return ExamineSeeds(made, path, first, end, findings.seed[place],
                                             findings);
                       }),
                       place});
  }
  while (!workers.empty()) end_first();
}

std::string CodeCounts(const Counts& counts) {
  std::string text;
  for (std::size_t code = 0; code < kCodes; ++code) {
    if (counts[code] == 0) continue;
    absl::StrAppend(&text, text.empty() ? "" : ", ",
                    absl::StatusCodeToString(static_cast<absl::StatusCode>(code)), " ",
                    counts[code].load());
  }
  return text;
}

std::string Table(const Findings& findings) {
  std::string text = "how opening ended:\n";
  for (std::size_t target = 0; target < 2; ++target) {
    for (std::size_t kind = 0; kind < kDamageKinds; ++kind) {
      absl::StrAppendFormat(&text, "  %-4s %-16s %s\n", target == 0 ? "file" : "log",
                            DamageName(static_cast<DamageKind>(kind)),
                            CodeCounts(findings.opened[target][kind]));
    }
  }
  absl::StrAppend(&text, "calls after it: ", CodeCounts(findings.calls), "\nrecords as stored ",
                  findings.right.load(), ", look-ups that found nothing ", findings.gone.load(),
                  ", counters that were not there ", findings.counters_gone.load());
  return text;
}

// The directory of a RAM disk, where there is one, since the files are thrown away at once.
std::string FastDirectory() {
  return access("/dev/shm", W_OK | X_OK) == 0 ? std::string("/dev/shm")
                                              : std::filesystem::temp_directory_path().string();
}

TEST_CASE("10,000 damaged files: no crash, no key granted that is not as it was stored") {
  const ScratchDirectory scratch(FastDirectory());
  const DamageStore made = MakeDamageStore(scratch.path());
  const SharedWithChildren<Findings> findings;
  const std::int64_t seeds = Scaled(10'000);
  ExamineAll(made, scratch, seeds, *findings);
  MESSAGE(absl::StrCat("seeds 0 to ", seeds - 1, " on ", made.file.size(), " bytes and a log of ",
                       made.log.size(), "\n", Table(*findings)));
  for (int i = 0; i < std::min<int>(findings->internal, 20); ++i) {
    MESSAGE(std::string(findings->internals.at(static_cast<std::size_t>(i)).data()));
  }
  for (int i = 0; i < std::min<int>(findings->wrong, 20); ++i) {
    MESSAGE(std::string(findings->wrongs.at(static_cast<std::size_t>(i)).data()));
  }
  CHECK(findings->wrong == 0);
  CHECK(findings->internal == 0);       // "Internal: our bug"
  CHECK(findings->right > 10 * seeds);  // most damage leaves most records readable
}

// Opens a copy of `made.file` after `change`, and asks for the key by `locator`.
absl::StatusOr<std::vector<KeyRecord>> FindAfter(const DamageStore& made,
                                                 const std::function<void(std::string&)>& change,
                                                 const std::string& locator) {
  const ScratchDirectory scratch;
  std::string bytes = made.file;
  change(bytes);
  WriteBytes(scratch / "throttl.db", bytes);
  const auto store = OpenSqliteStore({.path = scratch / "throttl.db"});
  REQUIRE_MESSAGE(store.ok(), store.status().ToString());
  return (*store)->FindKeys(std::vector<std::string>{locator});
}

TEST_CASE("a damaged locator or key id in the file leads to no key, in the table or its index") {
  const ScratchDirectory scratch;
  const DamageStore made = MakeDamageStore(scratch.path());
  const auto replace = [](const char* from, const char* to) {
    return [=](std::string& bytes) { REQUIRE(absl::StrReplaceAll({{from, to}}, &bytes) > 0); };
  };
  const auto untouched = FindAfter(
      made, [](std::string&) {}, "loc-key-02");
  REQUIRE(untouched.ok());
  REQUIRE(untouched->size() == 1);
  // Everywhere, and at the same place in the order: sound in SQLite's eyes.
  const auto renamed = FindAfter(made, replace("loc-key-09", "loc-key-0:"), "loc-key-0:");
  CHECK_MESSAGE(absl::IsDataLoss(renamed.status()), renamed.status().ToString());
  // In the table alone, where the locator leads to a key that knows nothing of it.
  const auto led_astray =
      FindAfter(made, replace("loc-key-02key-02", "loc-key-02key-04"), "loc-key-02");
  CHECK_MESSAGE(absl::IsDataLoss(led_astray.status()), led_astray.status().ToString());
}

struct Row {
  const char* table;
  const char* where;
};

// Changes one column of one row in `path`, as damage that SQLite cannot see.
void ChangeColumn(const std::string& path, const Row& row, const std::string& name,
                  const std::string& type) {
  const std::string value = type == "INTEGER" ? absl::StrCat("coalesce(", name, ", 0) + 7")
                            : type == "BLOB"  ? "zeroblob(32)"
                                              : absl::StrCat(name, " || 'x'");
  CHECK(PlainSqlite(path).Run(absl::StrCat("PRAGMA ignore_check_constraints = ON; UPDATE ",
                                           row.table, " SET ", name, " = ", value, " WHERE ",
                                           row.where, "; SELECT changes()")) == "1");
}

// What the store at `path` says of its keys and plans, or that it is DataLoss.
std::string AllSettings(const std::string& path) {
  const auto store = OpenSqliteStore({.path = path});
  REQUIRE_MESSAGE(store.ok(), store.status().ToString());
  const auto keys = (*store)->ListKeys({.count_max = 1000});
  const auto plans = (*store)->ReadPlans();
  std::string text;
  for (const absl::Status& status : {keys.status(), plans.status()}) {
    if (absl::IsDataLoss(status)) return "DataLoss";
    REQUIRE_MESSAGE(status.ok(), status.ToString());
  }
  for (const KeyRecord& record : keys->items) text += SettingsText(record);
  for (const Plan& plan : *plans) text += SettingsText(plan);
  return text;
}

TEST_CASE("a change of any column of a key, secret, limit or plan is DataLoss, or without effect") {
  const ScratchDirectory scratch(FastDirectory());
  const DamageStore made = MakeDamageStore(scratch.path());
  const std::string path = scratch / "changed.db";
  const auto restore = [&] {
    for (const char* ending : {"-wal", "-shm"}) unlink((path + ending).c_str());
    WriteBytes(path, made.file);
  };
  restore();
  const std::string settings = AllSettings(path);
  int lost = 0;
  for (const Row& row : {Row{"api_key", "id = 'key-24'"}, Row{"key_secret", "key_id = 'key-24'"},
                         Row{"key_text", "key_id = 'key-24' AND kind = 1 AND position = 0"},
                         Row{"rate_limit", "of = 2 AND parent_id = 'key-18'"},
                         Row{"rate_limit", "of = 1 AND parent_id = 'team' AND position = 0"},
                         Row{"plan", "id = 'team'"}}) {
    restore();
    const std::string columns = PlainSqlite(path).Run(
        absl::StrCat("SELECT name || ' ' || type FROM pragma_table_info('", row.table, "')"));
    const std::vector<std::string> lines = absl::StrSplit(columns, '\n');
    for (const std::string& column : lines) {
      const std::vector<std::string> name_type = absl::StrSplit(column, ' ');
      CAPTURE(row.table);
      CAPTURE(column);
      restore();
      ChangeColumn(path, row, name_type.at(0), name_type.at(1));
      const std::string now = AllSettings(path);
      CHECK((now == "DataLoss" || now == settings));
      if (now == "DataLoss") ++lost;
    }
  }
  // The others are: what settling writes, places in an order of one, counts of 1 instead of 2, and
  // what is true already.
  CHECK(lost == 58);
}

// Checksums leave the columns of version 3 out where all of them have the default.
TEST_CASE("a column that version 3 added and that becomes its default by damage is DataLoss") {
  const ScratchDirectory scratch(FastDirectory());
  const DamageStore made = MakeDamageStore(scratch.path());
  const std::string path = scratch / "changed.db";
  for (const std::string change :
       {"plan SET quota_soft_percent = 0 WHERE id = 'team'",
        "api_key SET quota_soft_percent = 0 WHERE id = 'key-16'",
        "rate_limit SET algorithm = 1 WHERE parent_id = 'team' AND position = 0",
        "rate_limit SET counts = 1 WHERE parent_id = 'team' AND position = 0",
        "rate_limit SET shadow = 0 WHERE parent_id = 'key-18'",
        // All of a record's at once, so that nothing is left that is not the default.
        "rate_limit SET algorithm = 1, counts = 1 WHERE parent_id = 'team'; "
        "UPDATE plan SET quota_soft_percent = 0"}) {
    CAPTURE(change);
    for (const char* ending : {"-wal", "-shm"}) unlink((path + ending).c_str());
    WriteBytes(path, made.file);
    const std::string before = AllSettings(path);
    REQUIRE(before != "DataLoss");
    CHECK(PlainSqlite(path).Run("UPDATE " + change + "; SELECT changes() > 0") == "1");
    CHECK(AllSettings(path) == "DataLoss");
  }
}

TEST_CASE("a change of any column of a counter or its lease is DataLoss, or without effect") {
  const ScratchDirectory scratch(FastDirectory());
  const DamageStore made = MakeDamageStore(scratch.path());
  const std::string path = scratch / "changed.db";
  int lost = 0;
  for (const char* table : {"counter", "lease"}) {
    WriteBytes(path, made.file);
    const std::string columns = PlainSqlite(path).Run(
        absl::StrCat("SELECT name || ' ' || type FROM pragma_table_info('", table, "')"));
    const std::vector<std::string> lines = absl::StrSplit(columns, '\n');
    for (const std::string& column : lines) {
      const std::vector<std::string> name_type = absl::StrSplit(column, ' ');
      CAPTURE(table);
      CAPTURE(column);
      for (const char* ending : {"-wal", "-shm"}) unlink((path + ending).c_str());
      WriteBytes(path, made.file);
      ChangeColumn(path, {table, "subject = 'key-01'"}, name_type.at(0), name_type.at(1));
      const auto replies = Must(OpenSqliteStore({.path = path}))->Settle(DamageSettle());
      if (absl::IsDataLoss(replies.status())) {
        ++lost;
        continue;
      }
      REQUIRE_MESSAGE(replies.ok(), replies.status().ToString());
      // A lease of another name is one that is not there, from which nothing can be kept.
      const bool refused = replies->at(0).code == SettleCode::kInvalid;
      CHECK((refused || Dump(replies->at(0)) == made.settle_reply));
    }
  }
  // All but a lease of another name, and what this settle writes anew.
  CHECK(lost == 24);
}

TEST_CASE("what a counter was forgiven and given, lost by damage, is DataLoss") {
  const ScratchDirectory scratch(FastDirectory());
  const std::string path = scratch / "throttl.db";
  {
    const auto store = Must(OpenSqliteStore({.path = path}));
    SettleBatch batch = DamageSettle();
    batch.rows = {NewRow("key-01", 1, 0, 0, 10)};
    MustSettle(*store, batch);
    batch.rows = {NewRow("key-01", 2, 10, 10, 0)};
    MustSettle(*store, batch);
    const CarryRow reset{.counter = {"key-01", At(0)}, .limit = 50, .limit_version = 2};
    CarryRow added = reset;
    added.carry_over = CarryOver::kAdditive;
    added.limit_before = 50;
    added.limit_version = 3;
    MustApply(*store, {.id = "carry", .carry_overs = {reset, added}});
  }
  CHECK(PlainSqlite(path).Run("SELECT forgiven || ' ' || added FROM counter") == "10 50");
  const std::string file = ReadBytes(path);
  for (const std::string change : {"forgiven = 0", "added = 0", "forgiven = 0, added = 0"}) {
    CAPTURE(change);
    for (const char* ending : {"-wal", "-shm"}) unlink((path + ending).c_str());
    WriteBytes(path, file);
    PlainSqlite(path).Run("UPDATE counter SET " + change);
    const auto replies = Must(OpenSqliteStore({.path = path}))->Settle(DamageSettle());
    CHECK(absl::IsDataLoss(replies.status()));
  }
}

}  // namespace
}  // namespace throttl::testing

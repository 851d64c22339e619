// Databases of every schema version, opened by the present library; and openings that were killed.

#include <chrono>
#include <random>
#include <thread>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"

#include "throttl/engine.h"
#include "throttl/sqlite_store.h"

#include "tests/faults/fault_parts.h"
#include "tests/golden/golden_content.h"
#include "tests/scale.h"
#include "tests/store/store_contract_parts.h"

namespace throttl::testing {
namespace {

constexpr int kVersions = 4;

std::string GoldenFile(int version, const std::string& ending) {
  return absl::StrCat(GOLDEN_DIRECTORY, "/schema-", version, ending);
}

TEST_CASE("a database of every schema version opens, with every record as it was") {
  for (int version = 1; version <= kVersions; ++version) {
    CAPTURE(version);
    const ScratchDirectory scratch;
    const std::string path = scratch / "throttl.db";
    WriteBytes(path, ReadBytes(GoldenFile(version, ".db")));
    CHECK(PlainSqlite(path).Run("PRAGMA user_version") == absl::StrCat(version));
    const auto store = Must(OpenSqliteStore({.path = path, .create = false}));
    const std::string wanted = ReadBytes(GoldenFile(version, ".txt"));
    REQUIRE(wanted.size() > 4000);
    CHECK(DescribeGolden(*store, version) == wanted);
    CHECK(PlainSqlite(path).Run("PRAGMA user_version") == absl::StrCat(kVersions));
    CHECK(PlainSqlite(path).Run("PRAGMA integrity_check") == "ok");
    CHECK(PlainSqlite(path).Run("PRAGMA foreign_key_check") == "");
  }
}

// An owner's secret from the time of version 1 must work for ever.
TEST_CASE("a secret that was issued on an old database still has its locator and digest there") {
  const std::string secret = GoldenSecret();
  for (int version = 1; version <= kVersions; ++version) {
    const ScratchDirectory scratch;
    WriteBytes(scratch / "throttl.db", ReadBytes(GoldenFile(version, ".db")));
    const auto store = Must(OpenSqliteStore({.path = scratch / "throttl.db"}));
    const std::string locator = secret.substr(std::string("thr_live_").size(), 12);
    const auto found = Must(store->FindKeys(std::vector<std::string>{locator}));
    REQUIRE(found.size() == 1);
    CHECK(found.at(0).key.id == "key-plain");
    CHECK(found.at(0).secrets.at(0).digest == Sha256(secret));
  }
}

TEST_CASE("an engine goes on with an old database: keys are managed, and its plans are kept") {
  for (int version = 1; version <= kVersions; ++version) {
    const ScratchDirectory scratch;
    WriteBytes(scratch / "throttl.db", ReadBytes(GoldenFile(version, ".db")));
    const auto engine = Must(Engine::Open(scratch / "throttl.db", {.settle_thread = false}));
    CHECK(Must(engine->ListPlans()).size() == 4);
    CHECK(Must(engine->ListKeys()).items.size() == 6);
    CHECK(Must(engine->RotateKey("key-plain")).key.version == 2);
    CHECK(engine->RevokeKey("key-full").ok());
    Must(engine->CreateKey({.owner_id = "new", .plan_id = "team"}));
    CHECK(Must(engine->ListKeys({.include_revoked = false})).items.size() == 5);
  }
}

TEST_CASE(
    "a counter of version 1 goes on, and the end of its period is not told: whose, is unknown") {
  const ScratchDirectory scratch;
  WriteBytes(scratch / "throttl.db", ReadBytes(GoldenFile(1, ".db")));
  const auto store = Must(OpenSqliteStore({.path = scratch / "throttl.db"}));
  MustSettle(*store, {.holder = HolderId{0xFEDCBA9876543210},
                      .now = At(20),
                      .rows = {NewRow("key-plain", 3, 58, 60, 0)}});
  const std::vector<CounterId> ids = {{"key-plain", At(0)}};
  const Counter counter = Must(store->ReadCounters(ids)).at(0);
  CHECK(counter.used == 58);
  CHECK(counter.owner_id == "acme");
  CHECK(Must(store->EndPeriods(At(400 * 86400), 10)) == 0);
}

// What a killed opening has left, looked at without changing it: a copy of its file and log.
std::string Leftovers(const std::string& path, const ScratchDirectory& scratch) {
  const std::string copy = scratch / "copy.db";
  for (const char* ending : {"", "-wal", "-shm"}) unlink((copy + ending).c_str());
  if (!std::filesystem::exists(path)) return "no file";
  WriteBytes(copy, ReadBytes(path));
  if (std::filesystem::exists(path + "-wal")) WriteBytes(copy + "-wal", ReadBytes(path + "-wal"));
  PlainSqlite plain(copy);
  const std::string version = plain.Run("PRAGMA user_version");
  const std::string tables = plain.Run(
      "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE "
      "'sqlite_%'");
  if (version == "0" && tables == "0") return "nothing";
  if (version != absl::StrCat(kVersions) || tables != "14" ||
      plain.Run("SELECT count(*) FROM meta") != "2") {
    return absl::StrCat("half of a schema: version ", version, ", ", tables, " tables");
  }
  const std::string plans = plain.Run("SELECT count(*) FROM plan");
  if (plans == "0") return "a schema";
  return plans == "3" ? "a schema and plans" : absl::StrCat("half of the plans: ", plans);
}

// How long a child takes to open a new store.
std::chrono::nanoseconds TimeToOpen(const ScratchDirectory& scratch) {
  const auto start = std::chrono::steady_clock::now();
  CHECK(InChild([&]() -> std::string {
          return Engine::Open(scratch / "timed.db").status().ToString();
        }) == "OK");
  return std::chrono::steady_clock::now() - start;
}

TEST_CASE("the first opening is killed at any instant: the next has everything or nothing before") {
  constexpr std::uint64_t kSeed = 20260101;
  const ScratchDirectory scratch;
  std::mt19937_64 random(kSeed);
  const auto span = static_cast<std::uint64_t>(TimeToOpen(scratch).count());
  std::map<std::string, int> found;
  const std::int64_t kills = Scaled(300);
  const std::string path = scratch / "throttl.db";
  for (std::int64_t i = 0; i < kills; ++i) {
    const pid_t child = StartChild([&] { return Engine::Open(path).ok() ? 0 : 1; });
    std::this_thread::sleep_for(std::chrono::nanoseconds(random() % (span + span / 4)));
    kill(child, SIGKILL);
    const std::string end = WaitForChild(child);
    CHECK((end == "signal 9" || end == "exit 0"));
    const std::string left = Leftovers(path, scratch);
    CHECK_MESSAGE(!absl::StartsWith(left, "half"), left);
    ++found[end == "exit 0" ? "too late" : left];
    const auto engine = Engine::Open(path, {.settle_thread = false});
    REQUIRE_MESSAGE(engine.ok(), absl::StrCat("kill ", i, ": ", engine.status().ToString()));
    CHECK(Must((*engine)->ListPlans()).size() == 3);
    CHECK((*engine)->CreateKey({.owner_id = "acme"}).ok());
    CHECK((*engine)->Close().ok());
    for (const char* ending : {"", "-wal", "-shm", "-gate"}) unlink((path + ending).c_str());
  }
  std::string text = absl::StrCat("seed ", kSeed, ", of ", kills, " kills the file had");
  for (const auto& [what, count] : found) absl::StrAppend(&text, "; ", what, ": ", count);
  MESSAGE(text);
}

}  // namespace
}  // namespace throttl::testing

// A file system of 1 MiB is filled by a store, and gets space again.

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/strings/match.h"

#include "throttl/engine.h"
#include "throttl/sqlite_store.h"

#include "tests/faults/fault_parts.h"
#include "tests/faults/private_mount.h"

namespace throttl::testing {
namespace {

constexpr int kKeysMax = 10'000;

// Says why the test cannot run. ctest counts it as skipped by these words.
bool Skipped(const PrivateMount& mount) {
  if (mount.refusal().empty()) return false;
  MESSAGE(absl::StrCat("skipped: ", mount.refusal()));
  return true;
}

bool IsFull(const absl::Status& status) {
  return status.code() == absl::StatusCode::kResourceExhausted ||
         status.code() == absl::StatusCode::kUnavailable;
}

absl::StatusOr<std::unique_ptr<Engine>> OpenEngine(const std::string& path) {
  return Engine::Open(path, {.settle_thread = false});
}

Key NamedKey(std::size_t number) {
  return {
      .owner_id = "acme", .name = absl::StrCat("key ", number), .metadata = std::string(400, 'm')};
}

// Creates keys until the disk is full; the status then. `ids` are those that were acknowledged.
absl::Status Fill(Engine& engine, std::vector<std::string>& ids) {
  for (int i = 0; i < kKeysMax; ++i) {
    const auto issued = engine.CreateKey(NamedKey(ids.size()));
    if (!issued.ok()) return issued.status();
    ids.push_back(issued->key.id);
  }
  return absl::OkStatus();
}

// Every acknowledged key is there, as it was made.
void CheckKeys(Engine& engine, const std::vector<std::string>& ids) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto key = engine.GetKey(ids[i]);
    REQUIRE_MESSAGE(key.ok(), key.status().ToString());
    CHECK(key->name == NamedKey(i).name);
    CHECK(key->secrets.size() == 1);
  }
}

TEST_CASE(
    "a full disk is a clear error, loses no acknowledged key, and is over when space returns") {
  PrivateMount mount;
  const ScratchDirectory scratch;
  if (!mount.Tmpfs(scratch.path(), "size=1m") && Skipped(mount)) return;
  const std::string ballast = scratch / "ballast";
  WriteBytes(ballast, std::string(200 << 10, 'b'));
  auto engine = OpenEngine(scratch / "throttl.db");
  REQUIRE_MESSAGE(engine.ok(), engine.status().ToString());

  std::vector<std::string> ids;
  for (int round = 0; round < 3; ++round) {
    const absl::Status status = Fill(**engine, ids);
    CHECK_MESSAGE(IsFull(status), status.ToString());
    MESSAGE(absl::StrCat(ids.size(), " keys, then ", status.ToString()));
    CheckKeys(**engine, ids);
  }
  const std::size_t when_full = ids.size();
  CHECK(when_full > 5);

  REQUIRE(unlink(ballast.c_str()) == 0);
  const auto issued = (*engine)->CreateKey(NamedKey(ids.size()));
  REQUIRE_MESSAGE(issued.ok(), issued.status().ToString());
  ids.push_back(issued->key.id);
  CHECK(IsFull(Fill(**engine, ids)));
  CHECK(ids.size() > when_full + 1);
  CheckKeys(**engine, ids);

  // No key is there that was not acknowledged: each failed call was undone whole.
  std::size_t listed = 0;
  KeyQuery query{.count_max = 1000};
  do {
    const auto page = (*engine)->ListKeys(query);
    REQUIRE(page.ok());
    listed += page->items.size();
    query.cursor = page->next_cursor;
  } while (!query.cursor.empty());
  CHECK(listed == ids.size());
  CHECK((*engine)->Close().ok());
}

TEST_CASE("on a full disk, what needs no new space goes on when the call is repeated") {
  PrivateMount mount;
  const ScratchDirectory scratch;
  if (!mount.Tmpfs(scratch.path(), "size=1m") && Skipped(mount)) return;
  const std::string path = scratch / "throttl.db";
  const auto store = OpenSqliteStore({.path = path});
  REQUIRE(store.ok());
  // The log may take 200 KiB of what is left, which is some 20 settles.
  const std::uintmax_t free = std::filesystem::space(scratch.path()).available;
  WriteBytes(scratch / "ballast", std::string(free - (200 << 10), 'b'));
  SettleBatch batch{.holder = HolderId{1}, .rows = {{.counter = {.subject = "k"}}}};
  SettleRow& row = batch.rows.front();
  int refusals = 0;
  for (std::int64_t i = 1; i <= 500; ++i) {
    row.seq = i;
    row.used = i - 1;
    row.keep = i - 1;
    row.want = 1;
    auto replies = (*store)->Settle(batch);
    if (!replies.ok()) {
      ++refusals;
      CHECK_MESSAGE(IsFull(replies.status()), replies.status().ToString());
      replies = (*store)->Settle(batch);
    }
    REQUIRE_MESSAGE(replies.ok(), replies.status().ToString());
    REQUIRE(replies->front().charged_to_all == i);
  }
  CHECK(refusals > 0);
}

TEST_CASE("a new store on a full disk is a clear error, and works when space returns") {
  PrivateMount mount;
  const ScratchDirectory scratch;
  if (!mount.Tmpfs(scratch.path(), "size=1m") && Skipped(mount)) return;
  const std::string ballast = scratch / "ballast";
  const std::string path = scratch / "throttl.db";
  // From no page at all to nearly enough: the error comes at another place each time.
  for (std::uintmax_t left = 0; left <= 256 << 10; left += 4 << 10) {
    CAPTURE(left);
    WriteBytes(ballast, std::string((1 << 20) - left, 'b'));
    const auto engine = OpenEngine(path);
    if (!engine.ok()) {
      CHECK_MESSAGE(IsFull(engine.status()), engine.status().ToString());
      CHECK(absl::StrContains(engine.status().message(), "full"));
    }
    REQUIRE(unlink(ballast.c_str()) == 0);
    const auto again = OpenEngine(path);
    REQUIRE_MESSAGE(again.ok(), again.status().ToString());
    CHECK((*again)->CreateKey(NamedKey(0)).ok());
    CHECK((*again)->ListPlans()->size() == 3);
    CHECK((*again)->Close().ok());
    for (const char* ending : {"", "-wal", "-shm", "-gate", "-lease", "-lease-lock"}) {
      unlink((path + ending).c_str());
    }
  }
}

}  // namespace
}  // namespace throttl::testing

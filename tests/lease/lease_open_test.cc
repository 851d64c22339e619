// Opening a lease table: which files are trusted, which are made anew, which are refused; a full
// disk; and forks.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "tests/faults/private_mount.h"
#include "tests/lease/lease_parts.h"
#include "tests/temp_dir.h"

namespace throttl::testing {
namespace {

using internal::LeaseHeader;
using internal::LeaseTable;
using internal::SlotAim;
using internal::SlotRef;
using internal::SlotTarget;
using internal::SpendCode;
using internal::UnsettledSlot;

using Table = std::unique_ptr<LeaseTable>;

Table MustOpen(const std::string& path, std::int64_t slots_max = 1024) {
  auto table = OpenTable(path, slots_max);
  REQUIRE_MESSAGE(table.ok(), table.status().ToString());
  return *std::move(table);
}

std::int64_t SpendOne(LeaseTable& table, const std::string& subject) {
  const auto ref = SlotOf(table, subject, AimOf({.limit = 100}));
  REQUIRE_MESSAGE(ref.ok(), ref.status().ToString());
  return table.TrySpend(*ref, {.cost = 1, .now_ms = kStart, .generation = table.generation()}).used;
}

// What is used of a subject that has a slot; -1 when it has none.
std::int64_t UsedOf(LeaseTable& table, const std::string& subject) {
  const auto found =
      table.Find({.subject = subject, .owner_id = "acme", .aim = AimOf({.limit = 100})});
  REQUIRE_MESSAGE(found.ok(), found.status().ToString());
  if (!found->ref.has_value()) return -1;
  return table.Probe(*found->ref, {.now_ms = kStart, .generation = table.generation()}).used;
}

void SettleAll(LeaseTable& table) {
  const auto commit = table.AcquireCommitLock(absl::Seconds(30));
  std::uint64_t next = 0;
  const auto slots = table.ReadUnsettled(100'000, 0, next);
  REQUIRE(slots.ok());
  REQUIRE(table.MarkSettled(*slots).ok());
}

std::string BytesOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void Patch(const std::string& path, std::size_t offset, const std::string& bytes) {
  const int file = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  REQUIRE(file >= 0);
  REQUIRE(pwrite(file, bytes.data(), bytes.size(), static_cast<off_t>(offset)) ==
          static_cast<ssize_t>(bytes.size()));
  close(file);
}

std::string WordBytes(std::uint64_t word) {
  return {reinterpret_cast<const char*>(&word), sizeof(word)};
}

// Ends as `child` says, with 0 for true.
bool HoldsInChild(const std::function<bool()>& child) {
  const pid_t pid = fork();
  if (pid == 0) _exit(child() ? 0 : 1);
  int status = 0;
  const bool ended = waitpid(pid, &status, 0) == pid;
  if (ended && WIFSIGNALED(status)) MESSAGE(absl::StrCat("ended by signal ", WTERMSIG(status)));
  return ended && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST_CASE("the lease file and its lock file are for their owner only") {
  const TempDir directory;
  const std::string path = directory.File("t-lease");
  const mode_t mask = umask(0);
  const Table table = MustOpen(path);
  umask(mask);
  for (const char* ending : {"", "-lock"}) {
    struct stat status = {};
    REQUIRE(stat((path + ending).c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0600);
  }
}

TEST_CASE("a table that is opened again, or by another, is the same with all its counters") {
  const TempDir directory;
  const std::string path = directory.File("t-lease");
  Table table = MustOpen(path);
  const HolderId holder = table->holder();
  CHECK(holder != HolderId{0});
  CHECK(SpendOne(*table, "k:one") == 1);
  const Table other = MustOpen(path);
  CHECK(other->holder() == holder);
  CHECK(SpendOne(*other, "k:one") == 2);
  PublishKey(*table, "5");
  CHECK(other->generation() == table->generation());
  const std::uint64_t generation = table->generation();
  table = nullptr;
  table = MustOpen(path);
  CHECK(table->holder() == holder);
  CHECK(table->generation() == generation);
  CHECK(UsedOf(*table, "k:one") == 2);
}

TEST_CASE("options out of bounds are refused with the value and the bound") {
  const TempDir directory;
  for (const std::int64_t slots_max :
       {std::int64_t{-1}, std::int64_t{0}, (std::int64_t{1} << 30) + 1}) {
    const auto table = OpenTable(directory.File("t-lease"), slots_max);
    CHECK(table.status().code() == absl::StatusCode::kInvalidArgument);
    CHECK(absl::StrContains(table.status().message(), absl::StrCat(slots_max)));
  }
  for (const std::string& store_id : {std::string(), std::string(64, 's')}) {
    const auto table = LeaseTable::Open({.path = directory.File("t-lease"), .store_id = store_id});
    CHECK(table.status().code() == absl::StatusCode::kInvalidArgument);
  }
  CHECK(std::filesystem::is_empty(directory.path()));
  CHECK(LeaseTable::Open({.store_id = std::string(63, 's'), .slots_max = 1}).ok());
}

// What makes a file one that is not to be trusted, and a word of the reason that is given.
struct Damage {
  const char* name;
  const char* reason;
  std::function<void(const std::string& path)> inflict;
};

std::vector<Damage> Damages() {
  const auto patch = [](std::size_t offset, std::string bytes) {
    return [offset, bytes](const std::string& path) { Patch(path, offset, bytes); };
  };
  const auto cut = [](std::uintmax_t bytes) {
    return [bytes](const std::string& path) { std::filesystem::resize_file(path, bytes); };
  };
  const std::uintmax_t whole = internal::kHeaderBytes + 1024 * (16 + 64 + 512);
  return {
      {"wrong magic", "not a lease file", patch(offsetof(LeaseHeader, magic), "SQLite f")},
      {"not ready", "damaged", patch(offsetof(LeaseHeader, ready), WordBytes(0))},
      {"an older layout", "layout 1", patch(offsetof(LeaseHeader, layout_version), WordBytes(1))},
      {"a newer layout", "layout 5", patch(offsetof(LeaseHeader, layout_version), WordBytes(5))},
      {"another store", "another store", patch(offsetof(LeaseHeader, store_id), "Store-of")},
      {"another boot", "another boot", patch(offsetof(LeaseHeader, boot_id), "00000000")},
      {"another size", "cut", patch(offsetof(LeaseHeader, slots_max), WordBytes(2048))},
      {"a size of all bits", "cut",
       patch(offsetof(LeaseHeader, slots_max), WordBytes(~std::uint64_t{0}))},
      {"too long", "cut", cut(whole + 1)},
  };
}

TEST_CASE("a file of an earlier boot, another store or another layout: a new table is made") {
  for (const Damage& damage : Damages()) {
    INFO(std::string(damage.name));
    const TempDir directory;
    const std::string path = directory.File("t-lease");
    Table table = MustOpen(path);
    const HolderId holder = table->holder();
    SpendOne(*table, "k:one");
    table = nullptr;
    damage.inflict(path);
    table = MustOpen(path);
    CHECK(table->holder() != holder);
    CHECK(UsedOf(*table, "k:one") == -1);
    CHECK(SpendOne(*table, "k:one") == 1);
    const HolderId made = table->holder();
    table = nullptr;
    CHECK(MustOpen(path)->holder() == made);
  }
}

TEST_CASE("others use such a file: FailedPrecondition that names it, and nothing is changed") {
  for (const Damage& damage : Damages()) {
    INFO(std::string(damage.name));
    const TempDir directory;
    const std::string path = directory.File("t-lease");
    const Table table = MustOpen(path);
    SpendOne(*table, "k:one");
    const std::string whole = BytesOf(path);
    damage.inflict(path);
    const std::string before = BytesOf(path);
    for (int i = 0; i < 2; ++i) {
      const auto refused = OpenTable(path);
      CHECK(refused.status().code() == absl::StatusCode::kFailedPrecondition);
      CHECK(absl::StrContains(refused.status().message(), path));
      CHECK_MESSAGE(absl::StrContains(refused.status().message(), damage.reason),
                    refused.status().ToString());
    }
    CHECK((BytesOf(path) == before));
    Patch(path, 0, whole.substr(0, 256));
    CHECK(SpendOne(*table, "k:one") == 2);
  }
}

TEST_CASE("a file that was cut is made anew; a text in its place too") {
  const TempDir directory;
  const std::string path = directory.File("t-lease");
  for (const std::size_t bytes : {0U, 1U, 16383U, 16384U, 20000U}) {
    Table table = MustOpen(path);
    const HolderId holder = table->holder();
    SpendOne(*table, "k:one");
    table = nullptr;
    std::filesystem::resize_file(path, bytes);
    table = MustOpen(path);
    CHECK(table->holder() != holder);
    CHECK(SpendOne(*table, "k:one") == 1);
    table = nullptr;
    std::ofstream(path, std::ios::binary | std::ios::trunc) << std::string(bytes, 'x');
    CHECK(SpendOne(*MustOpen(path), "k:one") == 1);
  }
}

TEST_CASE("while anybody uses a table nobody makes a second one in place of a removed file") {
  const TempDir directory;
  const std::string path = directory.File("t-lease");
  Table table = MustOpen(path);
  SpendOne(*table, "k:one");
  REQUIRE(unlink(path.c_str()) == 0);
  for (int i = 0; i < 2; ++i) {
    const auto refused = OpenTable(path);
    CHECK(refused.status().code() == absl::StatusCode::kFailedPrecondition);
    CHECK(absl::StrContains(refused.status().message(), path));
    CHECK(absl::StrContains(refused.status().message(), "removed"));
  }
  CHECK(SpendOne(*table, "k:one") == 2);
  const HolderId holder = table->holder();
  table = nullptr;
  table = MustOpen(path);
  CHECK(table->holder() != holder);
  CHECK(UsedOf(*table, "k:one") == -1);
}

TEST_CASE("a process that was killed is no user: its table is made anew, or goes on") {
  const TempDir directory;
  const std::string path = directory.File("t-lease");
  CHECK(HoldsInChild([&] {
    // Ends without closing anything.
    const Table table = MustOpen(path);
    return SpendOne(*table, "k:one") == 1;
  }));
  CHECK(UsedOf(*MustOpen(path), "k:one") == 1);
  REQUIRE(unlink(path.c_str()) == 0);
  CHECK(UsedOf(*MustOpen(path), "k:one") == -1);
}

TEST_CASE("FailedPrecondition: the file is not a regular file, or may not be opened") {
  const TempDir directory;
  for (const char* ending : {"", "-lock"}) {
    INFO("ending " << std::string(ending));
    const std::string path = directory.File(absl::StrCat("t", ending, "-lease"));
    const std::string odd = path + ending;
    const std::string target = directory.File("target");
    REQUIRE(mkdir(odd.c_str(), 0700) == 0);
    CHECK(OpenTable(path).status().code() == absl::StatusCode::kFailedPrecondition);
    REQUIRE(rmdir(odd.c_str()) == 0);
    REQUIRE(symlink(target.c_str(), odd.c_str()) == 0);
    CHECK(OpenTable(path).status().code() == absl::StatusCode::kFailedPrecondition);
    CHECK(!std::filesystem::exists(target));
    REQUIRE(unlink(odd.c_str()) == 0);
    REQUIRE(mkfifo(odd.c_str(), 0600) == 0);
    const auto fifo = OpenTable(path);
    CHECK(fifo.status().code() == absl::StatusCode::kFailedPrecondition);
    CHECK(absl::StrContains(fifo.status().message(), odd));
    REQUIRE(unlink(odd.c_str()) == 0);
    CHECK(OpenTable(path).ok());
  }
  CHECK(OpenTable(directory.File("none/t-lease")).status().code() == absl::StatusCode::kNotFound);
}

// --- What a dead process left

TEST_CASE("an index that was being written when a process ended is made anew") {
  const TempDir directory;
  const std::string path = directory.File("t-lease");
  Table table = MustOpen(path);
  for (int i = 0; i < 500; ++i) SpendOne(*table, absl::StrCat("k:", i));
  // The entries for 1024 slots: 2048 of them.
  Patch(path, internal::kHeaderBytes + 2048 * 4, std::string(2048 * 4, '\0'));
  Patch(path, offsetof(LeaseHeader, index_changing), WordBytes(1));
  for (int i = 0; i < 500; ++i) REQUIRE(UsedOf(*table, absl::StrCat("k:", i)) == 1);
  CHECK(SpendOne(*table, "k:7") == 2);
}

// --- Another size

TEST_CASE("another slots_max is taken when the table is opened alone and all is settled") {
  const TempDir directory;
  const std::string path = directory.File("t-lease");
  Table table = MustOpen(path, 1024);
  const HolderId holder = table->holder();
  const std::uintmax_t bytes = std::filesystem::file_size(path);
  SpendOne(*table, "k:one");
  SpendOne(*table, "k:two");
  // Not settled.
  table = nullptr;
  table = MustOpen(path, 2048);
  CHECK(table->holder() == holder);
  CHECK(UsedOf(*table, "k:one") == 1);
  SettleAll(*table);
  // Not alone.
  CHECK(MustOpen(path, 2048)->holder() == holder);
  CHECK(std::filesystem::file_size(path) == bytes);
  // A refusal is not settled.
  table->CountRefusal(*SlotOf(*table, "k:two", AimOf({.limit = 100})),
                      internal::RefusalKind::kOtherwise);
  table = nullptr;
  table = MustOpen(path, 2048);
  CHECK(table->holder() == holder);
  SettleAll(*table);
  // The same size, rounded up.
  table = nullptr;
  table = MustOpen(path, 1000);
  CHECK(table->holder() == holder);
  // A change is under way.
  table->BeginChange();
  table = nullptr;
  table = MustOpen(path, 2048);
  CHECK(table->holder() == holder);
  CHECK(table->AcquireCommitLock(absl::Seconds(30)).ok());
  table = nullptr;
  table = MustOpen(path, 2048);
  CHECK(table->holder() != holder);
  CHECK(UsedOf(*table, "k:one") == -1);
  CHECK(std::filesystem::file_size(path) > bytes);
  table = nullptr;
  MustOpen(path, 1024);
  CHECK(std::filesystem::file_size(path) == bytes);
}

// --- A full disk

void FillDisk(const std::string& path) {
  std::ofstream file(path, std::ios::binary);
  const std::string bytes(4096, 'b');
  while (file.write(bytes.data(), 4096).flush()) {
  }
}

TEST_CASE("ResourceExhausted: the disk is full; and it works when space returns") {
  const TempDir directory;
  PrivateMount mount;
  if (!mount.Tmpfs(directory.path(), "size=1m")) {
    MESSAGE(absl::StrCat("skipped: ", mount.refusal()));
    return;
  }
  const std::string path = directory.File("t-lease");
  const std::string ballast = directory.File("ballast");
  // In a child, which a signal would end.
  CHECK(HoldsInChild([&] {
    FillDisk(ballast);
    // The first one leaves a file of which no byte is allocated.
    for (int i = 0; i < 3; ++i) {
      const auto table = OpenTable(path, 4096);
      if (table.status().code() != absl::StatusCode::kResourceExhausted) return false;
    }
    unlink(ballast.c_str());
    const Table table = MustOpen(path, 4096);
    FillDisk(ballast);
    if (SlotOf(*table, "k:one", AimOf({})).status().code() !=
        absl::StatusCode::kResourceExhausted) {
      return false;
    }
    if (UsedOf(*table, "k:one") != -1) return false;
    for (const std::uint32_t slot : {0U, 1U, 1024U, 4095U}) {
      const SlotRef ref{.slot = slot, .claim = 1};
      if (table->TrySpend(ref, {.cost = 1}).code != SpendCode::kStale) return false;
      if (table->Probe(ref, {.cost = 1}).code != SpendCode::kStale) return false;
      if (table->Correct(ref, 0, 1) != 0) return false;
      table->CountRefusal(ref, internal::RefusalKind::kOtherwise);
      table->CountSurplus(ref, 1);
    }
    unlink(ballast.c_str());
    for (int i = 0; i < 1024; ++i) SpendOne(*table, absl::StrCat("k:", i));
    FillDisk(ballast);
    // 1 MiB does not hold the next 1024.
    if (SlotOf(*table, "k:more", AimOf({})).status().code() !=
        absl::StatusCode::kResourceExhausted) {
      return false;
    }
    for (int i = 0; i < 1024; ++i) {
      if (SpendOne(*table, absl::StrCat("k:", i)) != 2) return false;
    }
    SettleAll(*table);
    return UsedOf(*table, "k:more") == -1;
  }));
}

// --- Forks

TEST_CASE("in a forked child a table of private memory answers FailedPrecondition and says why") {
  const Table table = MustOpen("");
  const SlotAim aim = AimOf({.limit = 100});
  const SlotRef ref = *SlotOf(*table, "k:one", aim);
  const std::uint64_t generation = table->generation();
  CHECK(SpendOne(*table, "k:one") == 1);
  CHECK(HoldsInChild([&] {
    const SlotTarget target{.subject = "k:one", .owner_id = "acme", .aim = aim};
    std::uint64_t next = 0;
    const std::vector<absl::Status> answers = {table->Find(target).status(),
                                               table->Begin(target, 0).status(),
                                               table->Interrupt("k:one"),
                                               table->InterruptAll(),
                                               table->AcquireCommitLock(absl::Seconds(1)).status(),
                                               table->ReadUnsettled(1, 0, next).status(),
                                               table->MarkSettled({}),
                                               table->SetBase({.ref = ref}, 1)};
    for (const absl::Status& answer : answers) {
      if (answer.code() != absl::StatusCode::kFailedPrecondition) return false;
      if (!absl::StrContains(answer.message(), "child")) return false;
    }
    for (const std::uint64_t known : {std::uint64_t{0}, generation}) {
      const internal::UnitSpend spend{.cost = 1, .now_ms = kStart, .generation = known};
      if (table->TrySpend(ref, spend).code != SpendCode::kStale) return false;
      if (table->Probe(ref, spend).code != SpendCode::kStale) return false;
    }
    table->CountRefusal(ref, internal::RefusalKind::kOtherwise);
    table->CountSurplus(ref, 1);
    return table->generation() == 0 && table->Correct(ref, aim.period_end_ms, -1) == 0 &&
           table->CatchUp(generation).everything;
  }));
  CHECK(SpendOne(*table, "k:one") == 2);
  CHECK(table->generation() == generation);
}

TEST_CASE("a forked child and its parent count on the same counters of a file") {
  const TempDir directory;
  const std::string path = directory.File("t-lease");
  Table table = MustOpen(path);
  const SlotRef ref = *SlotOf(*table, "k:one", AimOf({.limit = 100}));
  CHECK(SpendOne(*table, "k:one") == 1);
  CHECK(HoldsInChild([&] {
    const auto answer =
        table->TrySpend(ref, {.cost = 5, .now_ms = kStart, .generation = table->generation()});
    if (answer.used != 6) return false;
    PublishKey(*table, "9");
    if (SpendOne(*table, "k:child") != 1) return false;
    // A child's end takes nothing from its parent.
    table = nullptr;
    return true;
  }));
  CHECK(UsedOf(*table, "k:one") == 6);
  CHECK(UsedOf(*table, "k:child") == 1);
  CHECK(table->CatchUp(table->generation() - 1).key_ids == std::vector<std::string>{"9"});
  // The parent still counts as a user, and its locks are its own.
  CHECK(HoldsInChild([&] {
    unlink(path.c_str());
    return OpenTable(path).status().code() == absl::StatusCode::kFailedPrecondition;
  }));
  CHECK(SpendOne(*table, "k:one") == 7);
}

TEST_CASE("a forked child and its parent exclude each other, and the end of one drops no lock") {
  const TempDir directory;
  const std::string path = directory.File("t-lease");
  const Table table = MustOpen(path);
  // The descriptors that a child would share are open from here on.
  CHECK(table->AcquireCommitLock(absl::Seconds(1)).ok());
  int pipe_ends[2] = {};
  REQUIRE(pipe2(pipe_ends, O_CLOEXEC) == 0);
  const pid_t child = fork();
  if (child == 0) {
    const auto held = table->AcquireCommitLock(absl::Seconds(1));
    const char byte = held.ok() ? 'y' : 'n';
    if (write(pipe_ends[1], &byte, 1) != 1) _exit(1);
    for (;;) pause();
  }
  char byte = 0;
  CHECK(read(pipe_ends[0], &byte, 1) == 1);
  CHECK(byte == 'y');
  CHECK(table->AcquireCommitLock(absl::Milliseconds(1)).status().code() ==
        absl::StatusCode::kUnavailable);
  kill(child, SIGKILL);
  CHECK(waitpid(child, nullptr, 0) == child);
  close(pipe_ends[0]);
  close(pipe_ends[1]);
  CHECK(HoldsInChild([&] {
    const auto commit = table->AcquireCommitLock(absl::Seconds(1));
    return commit.ok() && SpendOne(*table, "k:one") == 1;
  }));
  const Table other = MustOpen(path);
  const auto commit = table->AcquireCommitLock(absl::Seconds(1));
  REQUIRE(commit.ok());
  CHECK(other->AcquireCommitLock(absl::Milliseconds(1)).status().code() ==
        absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace throttl::testing

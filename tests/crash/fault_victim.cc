#include "tests/crash/fault_victim.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>
#include <sqlite3.h>

#include "src/lease/fault_point.h"

namespace throttl::testing {
namespace {

constexpr std::array<std::string_view, 40> kPoints = {
    // Deciding.
    "spend.read", "spend.fits", "spend.swapped", "probe.read",
    // Claiming a slot, rolling its period or hour, giving it a new limit.
    "begin.picked", "change.written", "change.valid", "change.closed", "change.state",
    "change.identity", "change.fields", "change.indexed", "change.opened",
    // Growing the table.
    "grow.allocated", "grow.sized", "grow.indexed", "index.cleared",
    // Settling.
    "settle.read", "store.row", "store.usage", "store.commit", "settle.stored", "settle.cleared",
    "settle.marked",
    // Changing keys and plans.
    "carry.settled", "apply.begun", "apply.stored", "publish.noted", "publish.bumped",
    "apply.published",
    // Finishing what another one began.
    "recover.intent", "recover.intent+change.closed", "recover.intent+change.state",
    "recover.intent+change.identity", "recover.intent+index.cleared",
    "recover.intent+change.fields", "recover.intent+change.indexed", "recover.intent+change.opened",
    "recover.index", "recover.index+index.cleared"};
static_assert(kPoints.size() <= std::tuple_size_v<decltype(FaultToll::hits)>);

// What this process dies of.
FatalPoint fatal;
std::atomic<std::int64_t> passes_left = 0;
FaultToll* toll = nullptr;

std::size_t NumberOf(std::string_view point) {
  const auto* const found = std::find(kPoints.begin(), kPoints.end(), point);
  REQUIRE_MESSAGE(found != kPoints.end(), std::string(point));
  return static_cast<std::size_t>(found - kPoints.begin());
}

void Pass(std::string_view point) {
  if (point != fatal.name || passes_left.fetch_sub(1) != 0) return;
  toll->hits[NumberOf(point)].fetch_add(1);
  kill(getpid(), SIGKILL);
}

std::array<char, 64> Composed(std::string_view recovery, std::string_view point) {
  std::array<char, 64> composed = {};
  recovery.copy(composed.data(), recovery.size());
  composed[recovery.size()] = '+';
  point.copy(composed.data() + recovery.size() + 1, point.size());
  return composed;
}

// In a recovery the point is named after it. One of an intent ends at "change.opened", and finds
// before "change.closed" whether there is anything to do.
void AtFaultPoint(const char* name) {
  thread_local std::string_view before;
  thread_local bool finishes_intent = false;
  const std::string_view point = name;
  if (before == "recover.intent" && point == "change.closed") finishes_intent = true;
  const bool remakes_index = before == "recover.index" && point == "index.cleared";
  before = point;
  if (!finishes_intent && !remakes_index) return Pass(point);
  Pass(Composed(finishes_intent ? "recover.intent" : "recover.index", point).data());
  if (point == "change.opened") finishes_intent = false;
}

int AtStatement(unsigned /*event*/, void* /*context*/, void* /*statement*/, void* text) {
  const std::string_view sql = static_cast<const char*>(text);
  if (sql.starts_with("INSERT INTO lease")) Pass("store.row");
  if (sql.starts_with("INSERT INTO usage_hour")) Pass("store.usage");
  return 0;
}

int AtCommit(void* /*context*/) {
  Pass("store.commit");
  return 0;
}

int AtConnection(sqlite3* handle, char** /*error*/, const sqlite3_api_routines* /*routines*/) {
  sqlite3_trace_v2(handle, SQLITE_TRACE_STMT, AtStatement, nullptr);
  sqlite3_commit_hook(handle, AtCommit, nullptr);
  return SQLITE_OK;
}

}  // namespace

std::span<const std::string_view> FaultPoints() { return kPoints; }

std::int64_t FaultToll::HitsOf(std::string_view point) const { return hits[NumberOf(point)]; }

std::string FaultToll::Table() const {
  std::string table;
  int shown = 0;
  for (std::size_t i = 0; i < kPoints.size(); ++i) {
    if (hits[i] == 0) continue;
    absl::StrAppend(&table, shown++ % 4 == 0 ? "\n  " : "  ", std::string(kPoints[i]), " ",
                    hits[i].load());
  }
  return table;
}

void ArmFaultPoint(const FatalPoint& point, FaultToll& toll_of_all) {
  fatal = point;
  passes_left = point.passes;
  toll = &toll_of_all;
  NumberOf(point.name);
  internal::fault_hook = AtFaultPoint;
  sqlite3_auto_extension(reinterpret_cast<void (*)()>(AtConnection));
}

}  // namespace throttl::testing

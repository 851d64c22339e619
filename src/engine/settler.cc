#include "src/engine/settler.h"

#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"

#include "src/base/status_macros.h"
#include "src/lease/fault_point.h"

namespace throttl::internal {
namespace {

constexpr absl::Duration kTurnTimeout = absl::Seconds(10);
// Slots in one transaction: as many as may be active by default, in some hundred bytes each.
constexpr std::size_t kSlotsAtOnce = 250'000;

// The id in "k:<key id>"; empty for an owner's subject.
std::string_view KeyIdOf(std::string_view subject) {
  return subject.starts_with("k:") ? subject.substr(2) : std::string_view();
}

std::optional<absl::Time> TimeOf(std::int64_t ms) {
  if (ms == kNever) return std::nullopt;
  return absl::FromUnixMillis(ms);
}

SettleRow RowOf(const UnsettledSlot& slot, std::int64_t seq, const PeriodTotal& period) {
  const std::string_view subject = slot.identity.subject.view();
  SettleRow row{.counter = {.subject = std::string(subject),
                            .period_start = absl::FromUnixSeconds(period.start_s)},
                .period_end = TimeOf(period.end_ms),
                .limit_version = period.limit_version,
                .alert_percents = UnpackPercents(period.alert_percents),
                .owner_id = std::string(slot.identity.owner_id.view()),
                .key_id = std::string(KeyIdOf(subject)),
                .seq = seq,
                .used = period.used,
                .keep = period.used,
                // Nothing is held back between two settles: a lease is never left open.
                .close = true,
                .refused = period.refused(),
                .sole = true};
  if (period.limit != kNoLimit) row.limit = period.limit;
  return row;
}

PeriodTotal RunningPeriod(const UnsettledSlot& slot) {
  return {.present = QuotaRefused(slot.totals.quota_turn) ? 2 : 1,
          .start_s = slot.state.period_start_s,
          .end_ms = slot.state.period_end_ms,
          .limit = slot.state.limit,
          .limit_version = slot.state.limit_since,
          .alert_percents = slot.state.alert_percents,
          .used = slot.totals.units};
}

void AddHour(std::string_view key_id, const HourTotal& hour, SettleBatch& batch) {
  UsageRow row{.key_id = std::string(key_id),
               .hour = {.start = absl::FromUnixSeconds(hour.hour * 3600),
                        .allowed = hour.allowed,
                        .units = hour.units}};
  row.hour.rate_limited = hour.refused[static_cast<std::size_t>(RefusalKind::kRateLimited)];
  row.hour.quota_exceeded = hour.refused[static_cast<std::size_t>(RefusalKind::kQuotaExceeded)];
  row.hour.refused_otherwise = hour.refused[static_cast<std::size_t>(RefusalKind::kOtherwise)];
  batch.usage.push_back(std::move(row));
}

// Where the slot's running row stands in the batch is what this returns.
std::size_t AddSlot(const UnsettledSlot& slot, std::int64_t seq, SettleBatch& batch) {
  if (slot.state.carried_period.present != 0) {
    batch.rows.push_back(RowOf(slot, seq, slot.state.carried_period));
  }
  batch.rows.push_back(RowOf(slot, seq, RunningPeriod(slot)));
  const std::string_view key_id = KeyIdOf(slot.identity.subject.view());
  if (!key_id.empty()) {
    if (slot.state.carried_hour.present != 0) AddHour(key_id, slot.state.carried_hour, batch);
    AddHour(key_id, RunningHour(slot.state, slot.totals), batch);
    if (slot.last_used_ms != 0) {
      batch.activity.push_back(
          {.key_id = std::string(key_id), .last_used_at = absl::FromUnixMillis(slot.last_used_ms)});
    }
  }
  return batch.rows.size() - 1;
}

}  // namespace

absl::Status Settler::Settle() {
  const absl::StatusOr<LeaseLock::Hold> hold = table_.AcquireCommitLock(kTurnTimeout);
  return Note(hold.ok() ? SettleAll() : hold.status());
}

absl::Status Settler::SettleHoldingCommitLock() { return Note(SettleAll()); }

absl::Status Settler::Note(absl::Status status) {
  if (status.ok()) {
    settles_.fetch_add(1, std::memory_order_relaxed);
    last_settled_ms_.store(absl::ToUnixMillis(context_.Now()), std::memory_order_relaxed);
  } else {
    failures_.fetch_add(1, std::memory_order_relaxed);
    context_.NoteStoreError(status);
  }
  return status;
}

absl::Status Settler::SettleAll() {
  for (std::uint64_t next = 0;;) {
    THROTTL_ASSIGN_OR_RETURN(const std::vector<UnsettledSlot> slots,
                             table_.ReadUnsettled(kSlotsAtOnce, next, next));
    if (!slots.empty()) THROTTL_RETURN_IF_ERROR(SettleSome(slots));
    if (next == 0) return absl::OkStatus();
  }
}

absl::Status Settler::SettleSome(const std::vector<UnsettledSlot>& slots) {
  const std::int64_t seq = table_.NextSettleSeq();
  SettleBatch batch{.holder = table_.holder(), .now = context_.Now()};
  std::vector<std::size_t> running;
  running.reserve(slots.size());
  for (const UnsettledSlot& slot : slots) running.push_back(AddSlot(slot, seq, batch));
  THROTTL_FAULT_POINT("settle.read");
  THROTTL_ASSIGN_OR_RETURN(const std::vector<SettleReply> replies, context_.store->Settle(batch));
  THROTTL_FAULT_POINT("settle.stored");
  for (std::size_t i = 0; i < replies.size(); ++i) {
    if (replies[i].code == SettleCode::kApplied) continue;
    return absl::InternalError(absl::StrCat(
        "the store answered ", static_cast<int>(replies[i].code), " to what was used by ",
        batch.rows[i].counter.subject, ": its lease table is older than the store, or damaged"));
  }
  THROTTL_RETURN_IF_ERROR(table_.MarkSettled(slots));
  THROTTL_FAULT_POINT("settle.marked");
  // Others, such as an import, may have used units too.
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const SettleReply& reply = replies[running[i]];
    const std::int64_t base = reply.charged_to_all - reply.allowance;
    if (base != slots[i].state.base) THROTTL_RETURN_IF_ERROR(table_.SetBase(slots[i], base));
  }
  return absl::OkStatus();
}

}  // namespace throttl::internal

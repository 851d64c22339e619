#include "throttl/settle.h"

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"

#include "throttl/plan.h"

#include "src/base/absl_string.h"

namespace throttl {
namespace {

using internal::AbslView;

// The seq of a lease whose holder was retired: it fences the calls that are still under way.
constexpr std::int64_t kRetiredSeq = std::numeric_limits<std::int64_t>::max();

__extension__ using Int128 = __int128;

// Units that count against the limit, as far as is known. A correction may take back more than
// counts still.
std::int64_t UsedOf(const Counter& counter) {
  return std::max<std::int64_t>(0, counter.used + counter.forfeited - counter.forgiven);
}

// REQUIRES: there is a limit.
std::int64_t LimitOf(const Counter& counter) { return *counter.limit + counter.added; }

// {"used":1,"limit":2}, with `head` and `tail` inside.
std::string DataOf(const Counter& counter, std::string_view head, std::string_view tail) {
  std::string data = absl::StrCat("{", AbslView(head), "\"used\":", UsedOf(counter));
  if (counter.limit.has_value()) absl::StrAppend(&data, ",\"limit\":", LimitOf(counter));
  absl::StrAppend(&data, AbslView(tail), "}");
  return data;
}

// An event whose id is the same whenever it is made again.
Event EventOf(const CounterId& id, std::string_view suffix, const Counter& counter,
              absl::Time now) {
  Event event;
  event.id =
      absl::StrCat(id.subject, ".", absl::ToUnixSeconds(id.period_start), ".", AbslView(suffix));
  event.at = now;
  event.owner_id = counter.owner_id;
  event.key_id = counter.key_id;
  return event;
}

// Raises every threshold that is reached and was not raised yet: those that one settle jumps over
// are told in order. `limit` is at most 2^48 and `percent` at most 1000, so the product fits.
void RaiseAlerts(const SettleRow& row, absl::Time now, Counter& counter,
                 std::vector<Event>& events) {
  if (!counter.limit.has_value() || LimitOf(counter) == 0) return;
  for (const std::int32_t percent : row.alert_percents) {
    if (percent <= counter.alerted_percent) continue;
    if (UsedOf(counter) < (LimitOf(counter) * percent + 99) / 100) break;
    counter.alerted_percent = percent;
    Event event =
        EventOf(row.counter, absl::StrCat(percent, ".", counter.limit_version), counter, now);
    event.type = event_type::kQuotaThreshold;
    event.data = DataOf(counter, absl::StrCat("\"percent\":", percent, ","), "");
    events.push_back(std::move(event));
  }
}

// A limit of 0 is reached before anything happens: there only a refusal counts.
void RaiseExceeded(const SettleRow& row, absl::Time now, Counter& counter,
                   std::vector<Event>& events) {
  if (!counter.limit.has_value() || counter.exceeded) return;
  const bool refused = row.refused && row.limit_version == counter.limit_version;
  const bool reached = LimitOf(counter) > 0 && UsedOf(counter) >= LimitOf(counter);
  if (!refused && !reached) return;
  counter.exceeded = true;
  Event event =
      EventOf(row.counter, absl::StrCat("exceeded.", counter.limit_version), counter, now);
  event.type = event_type::kQuotaExceeded;
  event.data = DataOf(counter, "", "");
  events.push_back(std::move(event));
}

// floor(used * limit / before), at most kLimitMax; `used` where nothing was allowed before.
std::int64_t Scaled(std::int64_t used, std::int64_t limit, std::int64_t before) {
  if (before == 0) return used;
  const Int128 scaled = Int128{used} * limit / before;
  return static_cast<std::int64_t>(std::min<Int128>(scaled, kLimitMax));
}

SettleReply Reply(SettleCode code, const Counter& counter, const Lease& lease) {
  return {.code = code,
          .allowance = lease.allowance,
          .used_by_all = counter.used,
          .charged_to_all = counter.charged,
          .forfeited = counter.forfeited,
          .limit = counter.limit,
          .limit_version = counter.limit_version,
          .recall = counter.recall,
          .forgiven = counter.forgiven,
          .added = counter.added};
}

// The units that `row` gets on top of what its lease has kept.
std::int64_t GrantFor(const SettleRow& row, absl::Time now, const Counter& counter,
                      const Lease& lease) {
  const bool in_period =
      now >= row.counter.period_start && (!row.period_end || now < *row.period_end);
  if (!in_period || row.close) return 0;
  // A lease has room for kLimitMax units, and the sum over all leases for an int64: without a limit
  // these are what ends.
  const std::int64_t room = std::min(kLimitMax - lease.allowance,
                                     std::numeric_limits<std::int64_t>::max() - counter.charged);
  const std::int64_t free =
      counter.limit ? LimitOf(counter) + counter.forgiven - counter.charged : room;
  const std::int64_t granted = std::min(row.want, free);
  return granted <= 0 || granted < row.want_min ? 0 : granted;
}

// Whether some holder should be asked to give back: this one went short while others had units.
bool RecallAfter(const SettleRow& row, std::int64_t granted, const Counter& counter,
                 const Lease& lease) {
  if (granted > 0) return false;
  if (row.want <= 0) return counter.recall;
  return counter.charged - counter.used - counter.forfeited > lease.allowance - lease.used;
}

}  // namespace

SettleReply ApplySettle(const SettleRow& row, absl::Time now,
                        std::optional<absl::Duration> lease_ttl, Counter& counter, Lease& lease,
                        std::vector<Event>& events) {
  if (row.seq < lease.seq || lease.seq == kRetiredSeq) {
    return Reply(SettleCode::kStale, counter, lease);
  }
  if (row.seq == lease.seq) return Reply(SettleCode::kApplied, counter, lease);
  if (row.used < 0 || row.used > row.keep || (row.keep > lease.allowance && !row.sole)) {
    return Reply(SettleCode::kInvalid, counter, lease);
  }
  if (lease.state == LeaseState::kLost) counter.forfeited -= lease.allowance - lease.used;
  if (lease.state != LeaseState::kOpen) ++counter.open_leases;
  lease.state = LeaseState::kOpen;
  if (row.limit_version >= counter.limit_version) {
    if (row.limit_version > counter.limit_version) {
      counter.alerted_percent = 0;
      counter.exceeded = false;
    }
    counter.limit = row.limit;
    counter.limit_version = row.limit_version;
  }
  counter.period_end = row.period_end;
  counter.owner_id = row.owner_id;
  counter.key_id = row.key_id;
  counter.used += row.used - lease.used;
  counter.charged += row.keep - lease.allowance;
  lease.used = row.used;
  lease.allowance = row.keep;
  lease.seq = row.seq;
  lease.expires_at = lease_ttl ? std::optional(now + *lease_ttl) : std::nullopt;
  const std::int64_t granted = GrantFor(row, now, counter, lease);
  lease.allowance += granted;
  counter.charged += granted;
  counter.recall = RecallAfter(row, granted, counter, lease);
  if (row.close) {
    lease.state = LeaseState::kClosed;
    --counter.open_leases;
  }
  RaiseAlerts(row, now, counter, events);
  RaiseExceeded(row, now, counter, events);
  return Reply(SettleCode::kApplied, counter, lease);
}

bool ApplyCarryOver(const CarryRow& row, Counter& counter) {
  if (row.limit_version <= counter.limit_version) return false;
  const bool is_stored = counter.limit_version != 0;
  const std::int64_t total = counter.used + counter.forfeited;
  const std::int64_t used = UsedOf(counter);
  const std::int64_t before = std::min(row.limit_before.value_or(0) + counter.added, kLimitMax);
  const std::int64_t limit = row.limit.value_or(0);
  switch (row.carry_over) {
    case CarryOver::kDifference:
      break;
    case CarryOver::kReset:
      counter.forgiven = total;
      counter.added = 0;
      break;
    case CarryOver::kProportional:
      counter.forgiven = total - Scaled(used, limit, before);
      counter.added = 0;
      break;
    case CarryOver::kAdditive:
      counter.added = std::min(std::max(before, used), kLimitMax - limit);
      break;
  }
  counter.period_end = row.period_end;
  counter.owner_id = row.owner_id;
  counter.key_id = row.key_id;
  counter.limit = row.limit;
  counter.limit_version = row.limit_version;
  counter.alerted_percent = 0;
  counter.exceeded = false;
  return is_stored || counter.added != 0;
}

void ApplyRetire(LeaseState end, Counter& counter, Lease& lease) {
  if (lease.state != LeaseState::kOpen || end == LeaseState::kOpen) return;
  --counter.open_leases;
  lease.state = end;
  if (end == LeaseState::kClosed) {
    lease.seq = kRetiredSeq;
    counter.charged -= lease.allowance - lease.used;
    lease.allowance = lease.used;
  } else {
    counter.forfeited += lease.allowance - lease.used;
  }
}

bool ApplyPeriodEnd(const CounterId& id, absl::Time now, Counter& counter,
                    std::vector<Event>& events) {
  if (counter.ended || counter.used + counter.forfeited <= 0) return false;
  if (!counter.period_end.has_value() || now < *counter.period_end) return false;
  counter.ended = true;
  const auto text = [](absl::Time time) {
    return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone());
  };
  Event event = EventOf(id, "reset", counter, now);
  event.type = event_type::kQuotaReset;
  event.data = DataOf(counter, "",
                      absl::StrCat(",\"period_start\":\"", text(id.period_start),
                                   "\",\"period_end\":\"", text(*counter.period_end), "\""));
  events.push_back(std::move(event));
  return true;
}

}  // namespace throttl

#include "src/store/memory/memory_deliveries.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <optional>
#include <unordered_set>
#include <vector>

#include "absl/strings/str_cat.h"

namespace throttl::internal {
namespace {

// "<seq>:<id>", or nothing when the cursor is not one of ours.
std::optional<std::pair<std::int64_t, std::string>> ParseCursor(const std::string& cursor) {
  std::int64_t seq = 0;
  const char* end = cursor.data() + cursor.size();
  const auto [rest, error] = std::from_chars(cursor.data(), end, seq);
  if (error != std::errc() || rest == end || *rest != ':' || rest + 1 == end) return std::nullopt;
  return std::pair(seq, std::string(rest + 1, end));
}

bool Matches(const Delivery& delivery, const DeliveryQuery& query) {
  return (query.owner_id.empty() || delivery.event.owner_id == query.owner_id) &&
         (query.destination.empty() || delivery.destination == query.destination) &&
         (!query.state || delivery.state == *query.state);
}

}  // namespace

MemoryDeliveries::MemoryDeliveries(const MemoryStoreOptions& options) : options_(options) {}

QuotaStore::Claimed MemoryDeliveries::Claim(const DeliveryClaim& claim) {
  const std::size_t count_max = static_cast<std::size_t>(std::max(claim.count_max, 0));
  std::vector<Row*> mine;  // handed out by the same call before: its reply was lost
  std::vector<Row*> free;
  for (const auto& [due_at, age] : pending_) {
    if (due_at > claim.now || mine.size() == count_max) break;
    Row& row = rows_.at(age);
    if (row.delivery.claim == claim.claim && row.claimed_until == claim.until) {
      mine.push_back(&row);
    } else if (row.claimed_until <= claim.now && free.size() < count_max) {
      free.push_back(&row);
    }
  }
  free.resize(std::min(free.size(), count_max - mine.size()));
  mine.insert(mine.end(), free.begin(), free.end());
  QuotaStore::Claimed claimed{.deliveries = {}, .planned_seq = planned_seq_};
  for (Row* row : mine) {
    row->delivery.claim = claim.claim;
    row->claimed_until = claim.until;
    claimed.deliveries.push_back(row->delivery);
  }
  return claimed;
}

absl::Status MemoryDeliveries::Put(std::span<const Delivery> deliveries, std::int64_t planned_seq) {
  std::unordered_set<std::string> added;
  for (const Delivery& delivery : deliveries) {
    if (!seq_of_id_.contains(delivery.id)) added.insert(delivery.id);
  }
  const std::int64_t rows = static_cast<std::int64_t>(rows_.size() + added.size());
  const std::int64_t excess = rows - options_.events_max;
  if (!added.empty() && excess > static_cast<std::int64_t>(finished_.size())) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the memory store would hold ", rows, " deliveries, at most ",
                     options_.events_max, " are allowed (MemoryStoreOptions::events_max)"));
  }
  for (const Delivery& delivery : deliveries) {
    const auto known = seq_of_id_.find(delivery.id);
    if (known == seq_of_id_.end()) {
      Store(delivery, absl::InfinitePast());
      continue;
    }
    const Age age(known->second, delivery.id);
    if (rows_.at(age).delivery.claim != delivery.claim) continue;
    Forget(age);
    Store(delivery, absl::InfinitePast());  // the answer ends the claim
  }
  while (static_cast<std::int64_t>(rows_.size()) > options_.events_max && !finished_.empty()) {
    Forget(Age(*finished_.begin()));
  }
  planned_seq_ = std::max(planned_seq_, planned_seq);
  return absl::OkStatus();
}

absl::StatusOr<Page<Delivery>> MemoryDeliveries::List(const DeliveryQuery& query) const {
  auto it = rows_.rbegin();
  if (!query.cursor.empty()) {
    const std::optional<Age> after = ParseCursor(query.cursor);
    if (!after) return absl::InvalidArgumentError("the cursor is not one that ListDeliveries gave");
    it = std::make_reverse_iterator(rows_.lower_bound(*after));
  }
  Page<Delivery> page;
  Age last;
  for (; it != rows_.rend(); ++it) {
    const Delivery& delivery = it->second.delivery;
    if (!Matches(delivery, query)) continue;
    if (page.items.size() == static_cast<std::size_t>(query.count_max)) {
      page.next_cursor = absl::StrCat(last.first, ":", last.second);
      break;
    }
    page.items.push_back(delivery);
    last = it->first;
  }
  return page;
}

std::int64_t MemoryDeliveries::Prune(absl::Time before, std::int64_t rows_max) {
  std::vector<Age> old;
  for (const Age& age : finished_) {
    if (static_cast<std::int64_t>(old.size()) == rows_max) break;
    if (rows_.at(age).delivery.event.at < before) old.push_back(age);
  }
  for (const Age& age : old) Forget(age);
  return static_cast<std::int64_t>(old.size());
}

void MemoryDeliveries::Store(const Delivery& delivery, absl::Time claimed_until) {
  const Age age(delivery.event.seq, delivery.id);
  rows_[age] = {.delivery = delivery, .claimed_until = claimed_until};
  seq_of_id_[delivery.id] = delivery.event.seq;
  if (delivery.state == DeliveryState::kPending) {
    pending_.emplace(delivery.due_at, age);
  } else {
    finished_.insert(age);
  }
}

void MemoryDeliveries::Forget(const Age& age) {
  const auto it = rows_.find(age);
  pending_.erase({it->second.delivery.due_at, age});
  finished_.erase(age);
  seq_of_id_.erase(age.second);
  rows_.erase(it);
}

}  // namespace throttl::internal

#include "src/engine/rate_pass.h"

#include <algorithm>
#include <bit>

namespace throttl::internal {
namespace {

// Each try ends by a swap, or finds that another request was quicker.
constexpr int kSwapsMax = 64;

}  // namespace

bool RatePass::Begin(const RateSet& set, const Request& request, std::string_view key_id) {
  size_ = 0;
  std::uint64_t left = set.Match({.method = request.method, .endpoint = request.endpoint});
  const bool wants_fine_clock = set.WantsFineClock(left);
  const std::uint64_t rate_key = table_.RateKeyOf(key_id);
  for (; left != 0; left &= left - 1) {
    const RateRule& rule = set.rules()[static_cast<std::size_t>(std::countr_zero(left))];
    const Item* const item = new (storage_.data() + size_ * sizeof(Item))
        Item{.rule = &rule,
             .tag = LeaseTable::RateTagOf(rate_key, rule.hash),
             .cost = rule.counts_requests ? std::min<std::int64_t>(request.cost, 1) : request.cost};
    ++size_;
    table_.rates().Prefetch(item->tag);
  }
  return wants_fine_clock;
}

std::uint64_t RatePass::WordOf(const Item& item) {
  return item.found.state == RateLookup::kFound ? item.found.word : 0;
}

// What the limit says of the request now.
void RatePass::Ask(Item& item) {
  item.found = table_.rates().Find(item.tag);
  std::uint64_t word = WordOf(item);
  if (word != 0 && item.rule->IsAhead(word, now_ns_)) {
    // Of a request with a later clock reading, or of a clock that has gone back since.
    const std::uint64_t clamped = item.rule->ClampToNow(word, clock_.ReadFineNs());
    if (clamped != word && RateTable::Swap(item.found, clamped)) {
      item.found.word = word = clamped;
    }
  }
  item.answer = item.rule->Spend({.word = word, .now_ns = now_ns_, .cost = item.cost});
  item.refuses = !item.answer.fits;
}

bool RatePass::Look(std::int64_t now_ns) {
  now_ns_ = now_ns;
  wait_ns_ = 0;
  shadow_refusals_ = 0;
  for (std::size_t i = 0; i < size_; ++i) {
    Item& item = ItemAt(i);
    Ask(item);
    if (!item.refuses) continue;
    if (item.rule->shadow) {
      ++shadow_refusals_;
      continue;
    }
    const std::int64_t wait_ns = item.answer.retry_after_ns.value_or(kNever);
    if (wait_ns <= wait_ns_) continue;
    wait_ns_ = wait_ns;
    refusing_ = i;
  }
  return wait_ns_ == 0;
}

void RatePass::Leave() {
  for (std::size_t i = 0; i < size_; ++i) {
    Item& item = ItemAt(i);
    if (item.refuses) continue;
    item.answer = item.rule->Spend({.word = WordOf(item), .now_ns = now_ns_, .cost = 0});
  }
}

RatePass::Step RatePass::Spend() {
  for (std::size_t i = 0; i < size_; ++i) {
    Item& item = ItemAt(i);
    if (item.refuses || item.cost == 0) continue;
    const Step step = SpendOne(item);
    THROTTL_FAULT_POINT("rates.spent");
    if (step == Step::kSpent) continue;
    GiveBack();
    return step;
  }
  return Step::kSpent;
}

RatePass::Step RatePass::SpendOne(Item& item) {
  for (int tries = 0; tries < kSwapsMax; ++tries) {
    if (item.found.state != RateLookup::kFound) {
      const Step step = ClaimOne(item);
      item.spent = step == Step::kSpent;
      if (step != Step::kRaced) return step;
    } else if (RateTable::Swap(item.found, item.answer.word)) {
      item.spent = true;
      return Step::kSpent;
    }
    Ask(item);
    if (!item.refuses) continue;
    // A shadow limit only counts what fits.
    return item.rule->shadow ? Step::kSpent : Step::kRaced;
  }
  return Step::kRaced;
}

RatePass::Step RatePass::ClaimOne(const Item& item) {
  const CallGate::Call call(gate_);
  // Computed from a limit at rest, as the entry is not there, or was not a moment ago.
  const RateAnswer first = item.rule->Spend({.word = 0, .now_ns = now_ns_, .cost = item.cost});
  const absl::StatusOr<RateClaimed> claimed =
      table_.ClaimRate({.tag = item.tag,
                        .word = first.word,
                        .window_ns = item.rule->slides ? item.rule->window_ns : 0,
                        .now_ns = now_ns_,
                        .clock_went_back = clock_went_back_},
                       RateWordFreeAt);
  if (!claimed.ok()) {
    status_ = claimed.status();
    return Step::kFailed;
  }
  switch (*claimed) {
    case RateClaimed::kClaimed:
      return Step::kSpent;
    case RateClaimed::kThere:
      return Step::kRaced;
    case RateClaimed::kLags:
      break;
  }
  // In this order: a clock that reads less than what was seen before has gone back.
  const std::int64_t freed_to_ns = table_.rates().freed_to_ns();
  clock_went_back_ = clock_.ReadFineNs() < freed_to_ns;
  return Step::kLags;
}

void RatePass::GiveBack() {
  for (std::size_t i = 0; i < size_; ++i) {
    if (ItemAt(i).spent) GiveBackOne(ItemAt(i));
  }
}

// Where the entry is no longer the one of that time, the units stay spent.
void RatePass::GiveBackOne(Item& item) {
  item.spent = false;
  FoundRate found = item.found;
  const std::int64_t since_ns = found.state == RateLookup::kFound ? found.since_ns : now_ns_;
  for (;;) {
    if (found.state != RateLookup::kFound || !RateTable::LookAgain(found)) {
      // Claimed by this request, or the table has grown since, or grows.
      found = FindSettled(item.tag);
      if (found.state != RateLookup::kFound || found.since_ns != since_ns) return;
    }
    const std::uint64_t word = item.rule->GiveBack({.word = found.word,
                                                    .spent = item.answer.word,
                                                    .spent_at_ns = now_ns_,
                                                    .now_ns = clock_.ReadNs(),
                                                    .cost = item.cost});
    if (word == found.word || RateTable::Swap(found, word)) return;
  }
}

// What is frozen after the wait, a killed claimer left: it was at rest.
FoundRate RatePass::FindSettled(std::uint64_t tag) {
  const FoundRate found = table_.rates().Find(tag);
  if (found.state != RateLookup::kFrozen) return found;
  const CallGate::Call call(gate_);
  if (!table_.AwaitTableLock().ok()) return found;
  return table_.rates().Find(tag);
}

void RatePass::Describe(absl::Time decided_at, RateState& state) const {
  const Item* shown = nullptr;
  if (wait_ns_ != 0) {
    shown = &ItemAt(refusing_);
  } else {
    double least = 0;
    for (std::size_t i = 0; i < size_; ++i) {
      const Item& item = ItemAt(i);
      if (item.rule->shadow) continue;
      const double part =
          static_cast<double>(item.answer.remaining) / static_cast<double>(item.rule->burst);
      if (shown != nullptr && part >= least) continue;
      shown = &item;
      least = part;
    }
  }
  if (shown == nullptr) return;
  state.name = shown->rule->name;
  state.limit = shown->rule->limit;
  state.remaining = shown->answer.remaining;
  state.window = absl::Nanoseconds(shown->rule->window_ns);
  state.resets_at =
      decided_at + absl::Nanoseconds(shown->rule->RestsAtNs(shown->answer.word, now_ns_) - now_ns_);
}

RatePass::Seen RatePass::At(std::size_t i) const {
  const Item& item = ItemAt(i);
  return {.rule = item.rule,
          .refuses = item.refuses,
          .remaining = item.answer.remaining,
          .rests_in_ns = item.rule->RestsAtNs(item.answer.word, now_ns_) - now_ns_,
          .wait_ns = item.refuses ? item.answer.retry_after_ns.value_or(kNever) : 0};
}

}  // namespace throttl::internal

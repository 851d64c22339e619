#include "src/engine/rate_pass.h"

namespace throttl::internal {
namespace {

// Each try ends by a swap, or finds that another request was quicker.
constexpr int kSwapsMax = 64;

}  // namespace

// Of a request with a later clock reading, or of a clock that has gone back since.
void RatePass::ClampWord(Item& item) {
  const std::uint64_t clamped = item.rule->ClampToNow(item.seen, clock_.ReadFineNs());
  if (clamped != item.seen && RateTable::Swap(FoundOf(item), clamped)) item.seen = clamped;
}

void RatePass::AskSlowly(Item& item) {
  const RateRule& rule = *item.rule;
  if (item.entry != nullptr && rule.IsAhead(item.seen, now_ns_)) ClampWord(item);
  const RateAnswer answer = rule.Spend({.word = item.seen, .now_ns = now_ns_, .cost = item.cost});
  item.word = answer.word;
  item.refuses = !answer.fits;
  item.wait_ns = answer.fits ? 0 : answer.retry_after_ns.value_or(kNever);
}

void RatePass::NoteRefusal(std::size_t i) {
  const Item& item = ItemAt(i);
  if (item.rule->shadow) {
    ++shadow_refusals_;
  } else if (item.wait_ns > wait_ns_) {
    wait_ns_ = item.wait_ns;
    refusing_ = i;
  }
}

void RatePass::Leave() {
  for (std::size_t i = 0; i < size_; ++i) ItemAt(i).word = ItemAt(i).seen;
}

// After a swap that failed, or where there is nothing to swap.
RatePass::Step RatePass::SpendSlowly(Item& item) {
  bool swapped = item.entry != nullptr;
  for (int tries = 0; tries < kSwapsMax; ++tries) {
    if (item.entry == nullptr) {
      const Step step = ClaimOne(item);
      item.spent = step == Step::kSpent;
      if (step != Step::kRaced) return step;
    } else if (!swapped && RateTable::Swap(FoundOf(item), item.word)) {
      item.spent = true;
      return Step::kSpent;
    }
    swapped = false;
    Ask(item, table_.rates().Find(item.tag));
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
  FoundRate found = FoundOf(item);
  const std::int64_t since_ns = found.state == RateLookup::kFound ? found.since_ns : now_ns_;
  for (;;) {
    if (found.state != RateLookup::kFound || !RateTable::LookAgain(found)) {
      // Claimed by this request, or the table has grown since, or grows.
      found = FindSettled(item.tag);
      if (found.state != RateLookup::kFound || found.since_ns != since_ns) return;
    }
    const std::uint64_t word = item.rule->GiveBack({.word = found.word,
                                                    .spent = item.word,
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

// Of those that may refuse, the one with the smallest part left: remaining / burst.
const RatePass::Item* RatePass::FindLeast() const {
  const Item* found = nullptr;
  std::uint64_t remaining = 0;
  std::uint64_t burst = 1;
  for (std::size_t i = 0; i < size_; ++i) {
    const Item& item = ItemAt(i);
    if (item.rule->shadow) continue;
    const auto left = static_cast<std::uint64_t>(item.rule->Remaining(item.word, now_ns_));
    const auto of = static_cast<std::uint64_t>(item.rule->burst);
    if (found != nullptr && Unsigned128{left} * burst >= Unsigned128{remaining} * of) continue;
    found = &item;
    remaining = left;
    burst = of;
  }
  return found;
}

RatePass::Seen RatePass::At(std::size_t i) const {
  const Item& item = ItemAt(i);
  return {.rule = item.rule,
          .refuses = item.refuses,
          .remaining = item.rule->Remaining(item.word, now_ns_),
          .rests_in_ns = item.rule->RestsAtNs(item.word, now_ns_) - now_ns_,
          .wait_ns = item.wait_ns};
}

}  // namespace throttl::internal

#include "tests/lease/slot_model.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace throttl::testing {

using internal::BeginSlot;
using internal::kNoLimit;
using internal::PlanSlot;
using internal::RefusalKind;
using internal::RunningHour;
using internal::SlotAim;
using internal::SlotNeed;
using internal::SlotPlan;
using internal::SlotState;
using internal::SlotTotals;
using internal::SlotTurn;
using internal::TurnSlot;

enum class Pc : std::uint8_t {
  kEnded,  // or dead: neither does anything more
  kRequest,
  kReadCache,
  kCheckGeneration,
  kLookUp,
  kCatchUpRead,
  kCatchUpInvalidate,
  kCatchUpMove,
  kLoadBegin,
  kLoadRead,
  kLoadInsert,
  kUnavailable,
  kReadConsumed,
  kReadClaim,
  kReadFresh,
  kReadGranted,
  kReadGeneration,
  kCheckEpoch,
  kSwap,
  kTell,
  kCountRefusal,
  kUnsettleRefusal,
  kTakeTableLock,
  kReleaseTableLock,
  kFindAgain,
  kFindDecide,
  kFindDone,
  kKeepSlot,
  kReadStart,
  kBeginPick,
  kBeginRead,
  kBeginDecide,
  kIntentWhole,
  kIntentValid,
  kClose,
  kFrozen,
  kStateTorn,
  kStateWhole,
  kIdentity,
  kGranted,
  kFresh,
  kClaim,
  kKeepSettled,
  kUnsettle,
  kOpen,
  kClearIntent,
  kTakeCommitLock,
  kPublishLost,
  kClearLost,
  kSettleBegin,
  kUnlockReading,
  kReadMark,
  kCompareMark,
  kExchangeMark,
  kSlotConsumed,
  kSlotIdentity,
  kSlotState,
  kSlotRefused,
  kSlotAgain,
  kStoreTotals,
  kClearCarried,
  kMarkSettled,
  kCompareBase,
  kSetBase,
  kSettleDone,
  kBeginChange,
  kApply,
  kPublish,
  kPublished,
  kInterrupt,
  kReturn,
  kEvictRequest,
};

namespace {

constexpr int kSettler = 2;
constexpr int kChanger = 3;
// Of ModelState::state while it is being written.
constexpr std::uint16_t kTorn = 0xFFFF;
constexpr std::uint8_t kOther = 1;  // the subject that evicts

struct StepName {
  Pc pc;
  const char* text;
};

// The function of the library that makes the step, and what the step is.
constexpr std::array kStepNames = {
    StepName{Pc::kRequest, "Validator::Decide: reads the clock"},
    StepName{Pc::kReadCache, "Validator::TryOnce: generation_.load"},
    StepName{Pc::kCheckGeneration, "Validator::TryOnce: table_.generation()"},
    StepName{Pc::kLookUp, "Validator::TryOnce: index_.Find, CheckIdentity"},
    StepName{Pc::kCatchUpRead, "LeaseTable::CatchUp: header.generation.load"},
    StepName{Pc::kCatchUpInvalidate, "Validator::CatchUp: index_.Invalidate"},
    StepName{Pc::kCatchUpMove, "Validator::CatchUp: generation_, never back"},
    StepName{Pc::kLoadBegin, "KeyLoader::TryLoad: index_.invalidations()"},
    StepName{Pc::kLoadRead, "KeyLoader::TryLoad: store->FindKeys"},
    StepName{Pc::kLoadInsert, "KeyLoader::TryLoad: index_.Insert"},
    StepName{Pc::kUnavailable, "Validator::FindSlots: kStoreUnavailable"},
    StepName{Pc::kReadConsumed, "LeaseTable::TrySpend: consumed.load"},
    StepName{Pc::kReadClaim, "LeaseTable::TrySpend: claim.load"},
    StepName{Pc::kReadFresh, "LeaseTable::TrySpend: fresh_until_ms.load"},
    StepName{Pc::kReadGranted, "LeaseTable::TrySpend: granted.load"},
    StepName{Pc::kReadGeneration, "LeaseTable::TrySpend: generation()"},
    StepName{Pc::kCheckEpoch, "LeaseTable::TrySpend: consumed.load before it refuses"},
    StepName{Pc::kSwap, "LeaseTable::TrySpend: consumed.compare_exchange"},
    StepName{Pc::kTell, "Validator::Decide: returns kValid"},
    StepName{Pc::kCountRefusal, "LeaseTable::CountRefusal: refused.fetch_add"},
    StepName{Pc::kUnsettleRefusal, "LeaseTable::CountRefusal: settled.store"},
    StepName{Pc::kTakeTableLock, "LeaseTable::AcquireTableLock: takes it, looks for an intent"},
    StepName{Pc::kReleaseTableLock, "LeaseLock::Hold: gives the table lock back"},
    StepName{Pc::kFindAgain, "Validator::SlotOf: tries again"},
    StepName{Pc::kFindDecide, "LeaseTable::Find: decides; WriteIntent begins"},
    StepName{Pc::kFindDone, "LeaseTable::Find: claim.load; gives the table lock back"},
    StepName{Pc::kKeepSlot, "Validator::TryFindSlots: index_.UpdateSlots"},
    StepName{Pc::kReadStart, "Validator::ReadStart: store->Settle with seq 0"},
    StepName{Pc::kBeginPick, "LeaseTable::Begin: FindInIndex, PickSlot"},
    StepName{Pc::kBeginRead, "LeaseTable::Begin: consumed.load"},
    StepName{Pc::kBeginDecide, "LeaseTable::Begin: settled.load; WriteIntent begins"},
    StepName{Pc::kIntentWhole, "LeaseTable::WriteIntent: intent.Store ends"},
    StepName{Pc::kIntentValid, "LeaseTable::WriteIntent: intent_valid.store(1)"},
    StepName{Pc::kClose, "LeaseTable::CloseSlot: consumed.compare_exchange"},
    StepName{Pc::kFrozen, "LeaseTable::FinishIntent: consumed.load"},
    StepName{Pc::kStateTorn, "LeaseTable::FinishIntent: state.Store begins"},
    StepName{Pc::kStateWhole, "LeaseTable::FinishIntent: state.Store ends"},
    StepName{Pc::kIdentity, "LeaseTable::FinishIntent: identity, reuses, next_claim, index"},
    StepName{Pc::kGranted, "LeaseTable::FinishIntent: granted.store"},
    StepName{Pc::kFresh, "LeaseTable::FinishIntent: fresh_until_ms.store"},
    StepName{Pc::kClaim, "LeaseTable::FinishIntent: claim.store"},
    StepName{Pc::kKeepSettled, "KeepSettled: settled.compare_exchange"},
    StepName{Pc::kUnsettle, "KeepSettled or FinishIntent: settled.store(kUnsettled)"},
    StepName{Pc::kOpen, "LeaseTable::FinishIntent: consumed.store(opened)"},
    StepName{Pc::kClearIntent, "LeaseTable::FinishIntent: intent_valid.store(0)"},
    StepName{Pc::kTakeCommitLock, "LeaseTable::AcquireCommitLock: takes it, looks at changing"},
    StepName{Pc::kPublishLost, "LeaseTable::Publish for a dead changer: generation.store"},
    StepName{Pc::kClearLost, "LeaseTable::Publish for a dead changer: changing.store(0)"},
    StepName{Pc::kUnlockReading, "LeaseTable::ReadUnsettled: gives the table lock back"},
    StepName{Pc::kReadMark, "LeaseTable::ReadUnsettled: the first of consumed and settled"},
    StepName{Pc::kCompareMark, "LeaseTable::ReadUnsettled: compares it with the second"},
    StepName{Pc::kExchangeMark, "LeaseTable::ReadUnsettled: settled.exchange(kSettling)"},
    StepName{Pc::kSlotConsumed, "LeaseTable::ReadSlot: consumed.load"},
    StepName{Pc::kSlotIdentity, "LeaseTable::ReadSlot: claim.load, identity.Load"},
    StepName{Pc::kSlotState, "LeaseTable::ReadSlot: state.Load"},
    StepName{Pc::kSlotRefused, "LeaseTable::CountersOf: refused.load"},
    StepName{Pc::kSlotAgain, "LeaseTable::ReadSlot: consumed.load again"},
    StepName{Pc::kStoreTotals, "Settler::SettleSome: NextSettleSeq, store->Settle"},
    StepName{Pc::kClearCarried, "LeaseTable::MarkSettled: state.Store"},
    StepName{Pc::kMarkSettled, "LeaseTable::MarkSettled: settled.compare_exchange"},
    StepName{Pc::kCompareBase, "Settler::SettleSome: compares the base"},
    StepName{Pc::kSetBase, "LeaseTable::SetBase: decides; WriteIntent begins"},
    StepName{Pc::kSettleDone, "Settler::SettleAll: gives the commit lock back"},
    StepName{Pc::kBeginChange, "LeaseTable::BeginChange: changing.store(1)"},
    StepName{Pc::kApply, "ChangeGate::Apply: store_.Apply"},
    StepName{Pc::kPublish, "LeaseTable::Publish: generation.store"},
    StepName{Pc::kPublished, "LeaseTable::Publish: changing.store(0)"},
    StepName{Pc::kInterrupt, "LeaseTable::InterruptSlot: consumed.compare_exchange"},
    StepName{Pc::kReturn, "ChangeGate::Apply: gives the commit lock back, returns"},
    StepName{Pc::kEvictRequest, "Validator::Decide, for another key: reads the clock"},
};

constexpr std::array kActorNames = {"admitter", "admitter", "settler", "changer"};

bool IsOver(const Actor& actor) { return actor.pc == Pc::kEnded; }

void Go(Actor& actor, Pc pc) { actor.pc = pc; }

// Takes the table lock, finishes what a dead process left, and goes on at `then`.
void LockTable(Actor& actor, Pc then) {
  actor.pc = Pc::kTakeTableLock;
  actor.then = then;
}

void UnlockTable(Actor& actor, Pc then) {
  actor.pc = Pc::kReleaseTableLock;
  actor.then = then;
}

// Kept over the tries of one request: all but what a try has read.
void TryAgain(Actor& actor) {
  actor = Actor{.pc = Pc::kReadCache, .left = actor.left, .now = actor.now};
}

void EndRequest(Actor& actor) {
  actor = Actor{.pc = actor.left == 0 ? Pc::kEnded : Pc::kRequest, .left = actor.left};
}

template <typename Value>
auto WordsOf(const Value& value) {
  return std::bit_cast<std::array<std::int64_t, sizeof(Value) / 8>>(value);
}

template <typename Value>
void AppendWords(const Value& value, std::vector<std::int64_t>& words) {
  for (const std::int64_t word : WordsOf(value)) words.push_back(word);
}

}  // namespace

std::string MoveText(int move, const ModelState& before) {
  if (move == 2 * SlotModel::kActors) return "the clock goes on";
  const auto number = static_cast<std::size_t>(move % SlotModel::kActors);
  const Actor& actor = before.actors[number];
  std::string what = "?";
  for (const StepName& name : kStepNames) {
    if (name.pc == actor.pc) what = name.text;
  }
  const std::string killed = move >= SlotModel::kActors ? " is killed before" : "";
  return absl::StrCat(kActorNames[number], " ", number, killed, ": ", what);
}

SlotModel::SlotModel(Scenario scenario) : scenario_(std::move(scenario)) {}

std::uint16_t SlotModel::NumberOf(const SlotState& state) {
  return states_.NumberOf(WordsOf(state), state);
}
std::uint16_t SlotModel::NumberOf(const SlotAim& aim) { return aims_.NumberOf(WordsOf(aim), aim); }
std::uint16_t SlotModel::NumberOf(const SlotTurn& turn) {
  return turns_.NumberOf(WordsOf(turn), turn);
}

std::uint16_t SlotModel::NumberOf(const Stored& stored) {
  std::vector<std::int64_t> words = {stored.version, stored.revoked ? 1 : 0};
  for (const Counter& counter : stored.counters) {
    words.insert(words.end(), {counter.limit.value_or(kNoLimit), counter.limit_version,
                               counter.used, counter.charged, counter.open_leases});
  }
  for (const Lease& lease : stored.leases) {
    words.insert(words.end(),
                 {static_cast<std::int64_t>(lease.state), lease.seq, lease.allowance, lease.used});
  }
  for (const internal::HourTotal& hour : stored.hours) AppendWords(hour, words);
  return stores_.NumberOf(words, stored);
}

void SlotModel::Expect(bool holds, const char* promise) {
  if (!holds && violation_.empty()) violation_ = promise;
}

std::int64_t SlotModel::LimitOf(std::uint8_t version) const {
  const bool is_lowered = version > 1 && scenario_.change == Change::kLower;
  return is_lowered ? scenario_.limit_later : scenario_.limit;
}

SlotAim SlotModel::AimAt(std::uint8_t hour, std::uint8_t version) const {
  const std::int64_t length = scenario_.period_hours;
  const std::int64_t start = hour / length * length;
  return {.period_start_s = kStart / 1000 + start * 3600,
          .period_end_ms = kStart + (start + length) * kHourMs,
          .limit = LimitOf(version),
          .limit_version = version,
          .hour = kStart / kHourMs + hour};
}

std::size_t SlotModel::PeriodOf(std::int64_t start_s) const {
  return static_cast<std::size_t>((start_s - kStart / 1000) / 3600 / scenario_.period_hours);
}

const SlotState& SlotModel::StateOf(std::uint16_t number) {
  Expect(number != kTorn, "a state that was half written is not used");
  return states_[number == kTorn ? std::uint16_t{0} : number];
}

// The slot has been begun, at the first hour, and the store knows the key.
ModelState SlotModel::Initial() {
  ModelState s;
  Stored stored;
  stored.counters[0].used = stored.counters[0].charged = scenario_.used_by_others;
  s.store = NumberOf(stored);
  const SlotTurn turn = BeginSlot({}, AimAt(scenario_.hours[0], 1));
  s.state = NumberOf(turn.state);
  s.granted = static_cast<std::uint8_t>(turn.granted);
  s.fresh = static_cast<std::uint8_t>((turn.fresh_until_ms - kStart) / kHourMs);
  s.claim = 1;
  s.next_claim = 2;
  s.generation = 1;
  for (Cache& cache : s.caches) cache.generation = 1;
  for (int i = 0; i < 2; ++i) {
    s.actors[static_cast<std::size_t>(i)] = {.pc = Pc::kRequest, .left = scenario_.requests};
  }
  s.actors[kSettler].left = scenario_.settles;
  s.actors[kSettler].pc = scenario_.settles == 0 ? Pc::kEnded : Pc::kTakeCommitLock;
  switch (scenario_.change) {
    case Change::kNone:
      break;
    case Change::kLower:
    case Change::kRevoke:
      s.actors[kChanger].pc = Pc::kTakeCommitLock;
      break;
    case Change::kEvict:
      s.actors[kChanger].pc = Pc::kEvictRequest;
  }
  return s;
}

// --- Moves

bool SlotModel::Move(int move, ModelState& s) {
  if (move == 2 * kActors) {
    if (s.hour + std::size_t{1} >= scenario_.hours.size()) return false;
    ++s.hour;
    return true;
  }
  const int actor = move % kActors;
  if (IsOver(s.actors[static_cast<std::size_t>(actor)])) return false;
  if (move >= kActors) {
    Kill(actor, s);
    ForgetCaches(s);
    return true;
  }
  if (!Step(actor, s)) return false;
  // What nobody else can see is done at once.
  while (IsPrivate(s, actor)) Step(actor, s);
  ForgetCaches(s);
  return true;
}

bool SlotModel::IsPrivate(const ModelState& s, int actor) const {
  switch (s.actors[static_cast<std::size_t>(actor)].pc) {
    case Pc::kReadCache:
    case Pc::kLookUp:
    case Pc::kCatchUpInvalidate:
    case Pc::kCatchUpMove:
    case Pc::kLoadBegin:
    case Pc::kLoadInsert:
    case Pc::kKeepSlot:
      return !scenario_.one_process;
    case Pc::kFindAgain:
    case Pc::kUnavailable:
    case Pc::kCompareBase:
      return true;
    case Pc::kRequest:
      if (scenario_.explores_all) return false;
      return s.hour + std::size_t{1} == scenario_.hours.size();
    case Pc::kCheckGeneration:
    case Pc::kCatchUpRead:
    case Pc::kLoadRead:
    case Pc::kReadGeneration:
      return HasLastGeneration(s);
    case Pc::kReadClaim:
    case Pc::kSlotIdentity:
      return scenario_.change != Change::kEvict;
    default:
      return false;
  }
}

// Whether nobody is left who may change the key or its generation.
bool SlotModel::HasLastGeneration(const ModelState& s) const {
  if (scenario_.explores_all) return false;
  if (scenario_.change == Change::kNone || scenario_.change == Change::kEvict) return true;
  return IsOver(s.actors[kChanger]) && s.changing == 0;
}

// The kernel gives the locks of a dead process back. Threads die with their process.
void SlotModel::Kill(int actor, ModelState& s) {
  for (int i = 0; i < kActors; ++i) {
    const bool dies = i == actor || (scenario_.one_process && i < 2 && actor < 2);
    Actor& dead = s.actors[static_cast<std::size_t>(i)];
    if (!dies || IsOver(dead)) continue;
    if (dead.pc == Pc::kTell) ++s.untold;
    if (s.table_lock == i + 1) s.table_lock = 0;
    if (s.commit_lock == i + 1) s.commit_lock = 0;
    dead = Actor{};
  }
}

// A process that is over has no memory.
void SlotModel::ForgetCaches(ModelState& s) const {
  const bool first = IsOver(s.actors[0]);
  const bool second = IsOver(s.actors[1]);
  if (scenario_.one_process ? first && second : first) s.caches[0] = Cache{};
  if (scenario_.one_process || second) s.caches[1] = Cache{};
}

Cache& SlotModel::CacheOf(int actor, ModelState& s) const {
  return s.caches[scenario_.one_process ? 0 : static_cast<std::size_t>(actor)];
}

bool SlotModel::Step(int actor, ModelState& s) {
  const Pc pc = s.actors[static_cast<std::size_t>(actor)].pc;
  if (pc < Pc::kReadConsumed) return StepOfRequest(actor, s);
  if (pc < Pc::kTakeTableLock) return StepOfSpend(actor, s);
  if (pc < Pc::kIntentWhole) return StepOfFind(actor, s);
  if (pc < Pc::kFrozen) return StepOfChange(actor, s);
  if (pc < Pc::kTakeCommitLock) return StepOfFinish(actor, s);
  if (pc >= Pc::kBeginChange) return StepOfChanger(actor, s);
  return pc >= Pc::kReadMark && pc < Pc::kStoreTotals ? StepOfRead(actor, s)
                                                      : StepOfSettle(actor, s);
}

// --- What a process knows of the key

bool SlotModel::StepOfRequest(int number, ModelState& s) {
  Actor& actor = s.actors[static_cast<std::size_t>(number)];
  Cache& cache = CacheOf(number, s);
  switch (actor.pc) {
    case Pc::kRequest:
      --actor.left;
      actor.now = scenario_.hours[s.hour];
      Go(actor, Pc::kReadCache);
      return true;
    case Pc::kReadCache:
      actor.generation = cache.generation;
      Go(actor, Pc::kCheckGeneration);
      return true;
    case Pc::kCheckGeneration:
      Go(actor, s.generation == actor.generation ? Pc::kLookUp : Pc::kCatchUpRead);
      return true;
    case Pc::kLookUp:
      actor.version = cache.version;
      actor.claim = cache.claim;
      if (cache.version == 0) {
        Go(actor, Pc::kLoadBegin);
      } else if (cache.revoked != 0) {
        EndRequest(actor);
      } else if (cache.claim == 0) {
        LockTable(actor, Pc::kFindDecide);
      } else {
        Go(actor, Pc::kReadConsumed);
      }
      return true;
    case Pc::kCatchUpRead:
      actor.generation = s.generation;
      Go(actor, Pc::kCatchUpInvalidate);
      return true;
    case Pc::kCatchUpInvalidate:
      cache = Cache{.generation = cache.generation,
                    .invalidations = static_cast<std::uint8_t>(
                        scenario_.one_process ? cache.invalidations + 1 : 0)};
      Go(actor, Pc::kCatchUpMove);
      return true;
    case Pc::kCatchUpMove:
      cache.generation = std::max(cache.generation, actor.generation);
      TryAgain(actor);
      return true;
    case Pc::kLoadBegin:
      actor = Actor{.pc = Pc::kLoadRead, .left = actor.left, .now = actor.now};
      actor.as_of = cache.invalidations;
      return true;
    case Pc::kLoadRead:
      actor.version = stores_[s.store].version;
      actor.refused = stores_[s.store].revoked ? 1 : 0;
      Go(actor, Pc::kLoadInsert);
      return true;
    case Pc::kUnavailable:
      EndRequest(actor);
      return true;
    default:  // kLoadInsert
      if (cache.invalidations == actor.as_of || !scenario_.rules.checks_invalidations) {
        cache.version = actor.version;
        cache.revoked = actor.refused;
        cache.claim = 0;
      }
      TryAgain(actor);
      return true;
  }
}

// --- LeaseTable::TrySpend and CountRefusal

bool SlotModel::StepOfSpend(int number, ModelState& s) {
  Actor& actor = s.actors[static_cast<std::size_t>(number)];
  const auto stale = [&] { LockTable(actor, Pc::kFindDecide); };
  switch (actor.pc) {
    case Pc::kReadConsumed:
      actor.epoch = s.epoch;
      actor.units = s.units;
      actor.granted = 0;
      (s.epoch & 1) != 0 ? stale() : Go(actor, Pc::kReadClaim);
      return true;
    case Pc::kReadClaim:
      s.claim != actor.claim&& scenario_.rules.compares_claim ? stale() : Go(actor, Pc::kReadFresh);
      return true;
    case Pc::kReadFresh:
      actor.now >= s.fresh ? stale() : Go(actor, Pc::kReadGranted);
      return true;
    case Pc::kReadGranted:
      actor.granted = s.granted;
      if (scenario_.rules.reads_generation_again) {
        Go(actor, Pc::kReadGeneration);
      } else {
        Go(actor, actor.units + 1 > actor.granted ? Pc::kCheckEpoch : Pc::kSwap);
      }
      return true;
    case Pc::kReadGeneration:
      if (s.generation != actor.generation) {
        TryAgain(actor);
      } else {
        Go(actor, actor.units + 1 > actor.granted ? Pc::kCheckEpoch : Pc::kSwap);
      }
      return true;
    case Pc::kCheckEpoch:
      if (s.epoch == actor.epoch || !scenario_.rules.compares_epoch) {
        Expect((s.epoch & 1) == 0 && s.units >= StateOf(s.state).limit - StateOf(s.state).base,
               "a request is refused only when the limit is reached");
        Refuse(actor);
      } else {
        Go(actor, Pc::kReadConsumed);
      }
      return true;
    case Pc::kSwap:
      if (s.epoch == actor.epoch && s.units == actor.units) {
        ++s.units;
        Swapped(actor, s);
      } else {
        Go(actor, Pc::kReadConsumed);
      }
      return true;
    case Pc::kTell:
      ++s.told[actor.now];
      EndRequest(actor);
      return true;
    case Pc::kCountRefusal:
      if (s.claim != actor.claim) {
        EndRequest(actor);
        return true;
      }
      ++s.refused;
      actor = Actor{.pc = Pc::kUnsettleRefusal, .left = actor.left};
      return true;
    default:  // kUnsettleRefusal
      s.settled = kModelUnsettled;
      s.settled_epoch = s.settled_units = 0;
      ++s.refusals_told;
      EndRequest(actor);
      return true;
  }
}

void SlotModel::Refuse(Actor& actor) const {
  actor = Actor{.pc = Pc::kCountRefusal, .left = actor.left, .claim = actor.claim};
}

// What the owner of the key was promised, at the one moment at which units are admitted.
void SlotModel::Swapped(Actor& actor, ModelState& s) {
  const SlotState& state = StateOf(s.state);
  Expect(s.subject == 0, "units are spent of the subject that was asked for");
  Expect(scenario_.change != Change::kRevoke || s.returned == 0,
         "after RevokeKey returned no swap succeeds");
  const std::size_t period = PeriodOf(state.period_start_s);
  ++s.admitted[period];
  const bool is_lowered = scenario_.change == Change::kLower && s.returned != 0;
  Expect(s.admitted[period] <= LimitOf(is_lowered ? 2 : 1),
         "units admitted never exceed the limit in force");
  actor = Actor{.pc = Pc::kTell, .left = actor.left, .now = static_cast<std::uint8_t>(period)};
}

// --- Finding and beginning a slot

bool SlotModel::StepOfFind(int number, ModelState& s) {
  Actor& actor = s.actors[static_cast<std::size_t>(number)];
  switch (actor.pc) {
    case Pc::kTakeTableLock:
      if (s.table_lock != 0) return false;
      s.table_lock = static_cast<std::uint8_t>(number + 1);
      Go(actor, s.intent_valid != 0 && scenario_.rules.recovers ? Pc::kFrozen : actor.then);
      return true;
    case Pc::kReleaseTableLock:
      s.table_lock = 0;
      Go(actor, actor.then);
      actor.then = Pc::kEnded;
      if (actor.pc == Pc::kEnded) actor = Actor{};
      return true;
    case Pc::kFindAgain:
      LockTable(actor, Pc::kFindDecide);
      return true;
    case Pc::kFindDecide:
      DecideFind(actor, s);
      return true;
    case Pc::kFindDone:
      actor.claim = s.claim;
      s.table_lock = 0;
      if (number == kSettler) {
        actor = Actor{.pc = Pc::kSettleDone, .left = actor.left};
        return true;
      }
      if (number == kChanger) {
        actor = Actor{.pc = Pc::kEnded};
        return true;
      }
      actor = Actor{.pc = Pc::kKeepSlot,
                    .left = actor.left,
                    .now = actor.now,
                    .version = actor.version,
                    .claim = actor.claim};
      return true;
    case Pc::kKeepSlot: {
      Cache& cache = CacheOf(number, s);
      if (cache.version == actor.version) cache.claim = actor.claim;
      TryAgain(actor);
      return true;
    }
    case Pc::kReadStart:
      ReadStart(actor, s);
      LockTable(actor, Pc::kBeginPick);
      return true;
    case Pc::kBeginRead:
      actor.epoch = s.epoch;
      actor.units = s.units;
      Go(actor, Pc::kBeginDecide);
      return true;
    default:  // kBeginPick, kBeginDecide
      DecideBegin(actor, number, s);
      return true;
  }
}

// LeaseTable::NoteNewestOf.
void NoteNewestOf(const SlotAim& aim, ModelState& s) {
  const std::int64_t hour = std::max(aim.period_start_s / 3600, aim.hour);
  s.newest = static_cast<std::uint8_t>(std::max<std::int64_t>(s.newest, hour - kStart / kHourMs));
}

// As LeaseTable::Find, line by line.
void SlotModel::DecideFind(Actor& actor, ModelState& s) {
  actor = Actor{.pc = actor.pc,
                .left = actor.left,
                .now = actor.now,
                .version = actor.version,
                .reuses = s.reuses};
  if (s.subject != 0) return UnlockTable(actor, Pc::kReadStart);
  const SlotPlan plan = PlanSlot(StateOf(s.state), AimAt(actor.now, actor.version));
  switch (plan.need) {
    case SlotNeed::kStore:
      return UnlockTable(actor, Pc::kReadStart);
    case SlotNeed::kSettle:
      // Validator::SlotOf settles then, and tries again; that is not in this model.
      return Expect(false, "the model has two periods only");
    case SlotNeed::kNothing:
      actor.then = Pc::kFindDone;
      return Go(actor, Pc::kFindDone);
    case SlotNeed::kTurn:
      break;
  }
  NoteNewestOf(plan.aim, s);
  WriteIntent(actor, plan.aim, false, s);
}

// What the store says of the period, as Validator::ReadStart with counted_before.
void SlotModel::ReadStart(Actor& actor, const ModelState& s) {
  SlotAim aim = AimAt(actor.now, actor.version);
  const std::size_t period = PeriodOf(aim.period_start_s);
  Counter counter = stores_[s.store].counters[period];
  Lease lease = stores_[s.store].leases[period];
  std::vector<Event> events;
  const SettleReply reply = ApplySettle({.seq = 0}, absl::UnixEpoch(), {}, counter, lease, events);
  aim.units = scenario_.rules.begins_from_store ? reply.allowance : 0;
  aim.base = reply.charged_to_all - reply.allowance;
  aim.limit_since = reply.limit == aim.limit ? reply.limit_version : 0;
  actor.value = NumberOf(aim);
}

// As LeaseTable::Begin, with one slot in all: std::nullopt goes back to Find, and a request that
// finds the slot in use is refused.
void SlotModel::DecideBegin(Actor& actor, int number, ModelState& s) {
  const bool evicts = number == kChanger;
  const auto nothing = [&] {
    evicts ? UnlockTable(actor, Pc::kEnded) : UnlockTable(actor, Pc::kFindAgain);
  };
  SlotAim aim = evicts ? AimAt(actor.now, 1) : aims_[actor.value];
  const SlotState& state = StateOf(s.state);
  if (actor.pc == Pc::kBeginPick) {
    if (!evicts && s.reuses != actor.reuses) return nothing();
    if (!evicts && s.subject == 0) {
      const SlotPlan plan = PlanSlot(state, aim);
      if (plan.need != SlotNeed::kStore) return nothing();
      Expect(state.carried_period.present == 0, "the model has two periods only");
      NoteNewestOf(plan.aim, s);
      return WriteIntent(actor, plan.aim, false, s);
    }
    const bool reusable = (s.epoch & 1) == 0 && s.settled == 0 && s.settled_epoch == s.epoch &&
                          s.settled_units == s.units && state.hour < aim.hour &&
                          state.carried_period.present == 0 && state.carried_hour.present == 0;
    if (reusable) return Go(actor, Pc::kBeginRead);
    return UnlockTable(actor, evicts ? Pc::kEnded : Pc::kUnavailable);
  }
  if (s.settled != 0 || s.settled_epoch != actor.epoch || s.settled_units != actor.units) {
    return nothing();
  }
  aim.hour = std::max(aim.hour, kStart / kHourMs + s.hour_min);
  s.hour_min = static_cast<std::uint8_t>(aim.hour - kStart / kHourMs);
  aim.known_to_ms = kStart + s.newest * kHourMs;
  NoteNewestOf(aim, s);
  WriteIntent(actor, aim, true, s);
  s.intent_subject = evicts ? kOther : 0;
}

// --- Changing a slot

void SlotModel::WriteIntent(Actor& actor, const SlotAim& aim, bool begins, ModelState& s) {
  s.intent_torn = 1;
  s.intent_epoch = begins ? actor.epoch : s.epoch;
  s.intent_claim = begins ? s.next_claim : s.claim;
  s.intent_begins = begins ? 1 : 0;
  // Only those of the subject of the admitters count for them.
  const bool displaces = begins && s.subject == 0;
  s.intent_reuses = static_cast<std::uint8_t>(s.reuses + (displaces ? 1 : 0));
  s.intent_state = begins ? std::uint16_t{0} : s.state;
  s.intent_refused = s.refused;
  s.intent_aim = NumberOf(aim);
  actor.then = Pc::kFindDone;
  actor.value = 0;
  Go(actor, scenario_.rules.writes_intent_first ? Pc::kIntentWhole : Pc::kClose);
}

bool SlotModel::StepOfChange(int number, ModelState& s) {
  Actor& actor = s.actors[static_cast<std::size_t>(number)];
  const bool intent_first = scenario_.rules.writes_intent_first;
  switch (actor.pc) {
    case Pc::kIntentWhole:
      s.intent_torn = 0;
      Go(actor, Pc::kIntentValid);
      return true;
    case Pc::kIntentValid:
      s.intent_valid = 1;
      Go(actor, intent_first ? Pc::kClose : Pc::kFrozen);
      return true;
    default:  // kClose
      if (s.intent_begins != 0 && scenario_.rules.begins_exactly &&
          (s.epoch != actor.epoch || s.units != actor.units)) {
        s.intent_valid = 0;
        UnlockTable(actor, number == kChanger ? Pc::kEnded : Pc::kFindAgain);
        return true;
      }
      if (scenario_.rules.closes_before_change) {
        s.epoch = static_cast<std::uint8_t>(s.intent_epoch + 1);
      }
      actor.epoch = actor.units = 0;
      Go(actor, intent_first ? Pc::kFrozen : Pc::kIntentWhole);
      return true;
  }
}

// From here on the change is the same whoever makes it, and how often.
void SlotModel::Frozen(Actor& actor, ModelState& s) {
  Expect(s.intent_torn == 0, "an intent that was half written is not used");
  const int closed = s.intent_epoch + (scenario_.rules.closes_before_change ? 1 : 0);
  if (s.epoch != closed) return Go(actor, Pc::kClearIntent);
  const SlotTotals totals{.units = s.units, .surplus = 0, .refused = {0, s.intent_refused, 0}};
  const std::uint16_t old = scenario_.rules.turns_from_intent ? s.intent_state : s.state;
  const SlotAim& aim = aims_[s.intent_aim];
  actor.turn =
      NumberOf(s.intent_begins != 0 ? BeginSlot(totals, aim) : TurnSlot(StateOf(old), totals, aim));
  actor.frozen = s.units;
  Go(actor, Pc::kStateTorn);
}

// KeepSettled, or what FinishIntent does in its place; how to go on.
Pc SlotModel::KeepSettled(const Actor& actor, ModelState& s) const {
  const SlotTurn& turn = turns_[actor.turn];
  const auto opened = static_cast<std::uint8_t>(s.intent_epoch + 2);
  const auto opened_units = static_cast<std::uint8_t>(turn.units);
  const auto is_marked = [&s](std::uint8_t epoch, std::uint8_t units) {
    return s.settled == 0 && s.settled_epoch == epoch && s.settled_units == units;
  };
  if (s.intent_begins == 0) {
    const bool may_stay = turn.state.carried_period.present == 0 &&
                          turn.state.carried_hour.present == 0 &&
                          turn.state.limit_version == states_[s.intent_state].limit_version &&
                          turn.state.period_version == states_[s.intent_state].period_version;
    if (!may_stay) return Pc::kUnsettle;
    if (!is_marked(s.intent_epoch, actor.frozen) && scenario_.rules.keeps_settled_compared) {
      return is_marked(opened, opened_units) ? Pc::kOpen : Pc::kUnsettle;
    }
  }
  s.settled = 0;
  s.settled_epoch = opened;
  s.settled_units = opened_units;
  return Pc::kOpen;
}

bool SlotModel::StepOfFinish(int number, ModelState& s) {
  Actor& actor = s.actors[static_cast<std::size_t>(number)];
  if (actor.pc == Pc::kFrozen) {
    Frozen(actor, s);
    return true;
  }
  if (actor.pc == Pc::kClearIntent) {
    s.intent_valid = 0;
    s.intent_torn = 0;
    s.intent_epoch = s.intent_claim = s.intent_begins = s.intent_reuses = 0;
    s.intent_refused = s.intent_subject = 0;
    s.intent_state = s.intent_aim = 0;
    actor.turn = 0;
    actor.frozen = 0;
    Go(actor, actor.then);
    return true;
  }
  const SlotTurn& turn = turns_[actor.turn];
  const auto opened = static_cast<std::uint8_t>(s.intent_epoch + 2);
  const auto opened_units = static_cast<std::uint8_t>(turn.units);
  const auto next = [&](Pc pc) {
    Go(actor, pc);
    return true;
  };
  switch (actor.pc) {
    case Pc::kStateTorn:
      s.state = kTorn;
      return next(Pc::kStateWhole);
    case Pc::kStateWhole:
      s.state = NumberOf(turn.state);
      return next(s.intent_begins != 0 ? Pc::kIdentity : Pc::kGranted);
    case Pc::kIdentity:
      s.subject = s.intent_subject;
      s.reuses = s.intent_reuses;
      s.next_claim = static_cast<std::uint8_t>(s.intent_claim + 1);
      return next(Pc::kGranted);
    case Pc::kGranted:
      s.granted = static_cast<std::uint8_t>(turn.granted);
      return next(Pc::kFresh);
    case Pc::kFresh:
      s.fresh = static_cast<std::uint8_t>((turn.fresh_until_ms - kStart) / kHourMs);
      return next(s.intent_begins != 0 ? Pc::kClaim : Pc::kKeepSettled);
    case Pc::kClaim:
      s.claim = s.intent_claim;
      return next(Pc::kKeepSettled);
    case Pc::kKeepSettled:
      return next(KeepSettled(actor, s));
    case Pc::kUnsettle:
      s.settled = kModelUnsettled;
      s.settled_epoch = s.settled_units = 0;
      return next(Pc::kOpen);
    default:  // kOpen
      s.epoch = opened;
      s.units = opened_units;
      return next(Pc::kClearIntent);
  }
}

// --- Settling

bool SlotModel::StepOfSettle(int number, ModelState& s) {
  Actor& actor = s.actors[static_cast<std::size_t>(number)];
  const auto next = [&](Pc pc) {
    Go(actor, pc);
    return true;
  };
  switch (actor.pc) {
    case Pc::kTakeCommitLock:
      if (s.commit_lock != 0) return false;
      s.commit_lock = static_cast<std::uint8_t>(number + 1);
      if (number == kSettler) {
        --actor.left;
        if (s.changing == 0 || !scenario_.rules.recovers_publication) {
          LockTable(actor, Pc::kUnlockReading);
          return true;
        }
      }
      // One changer only, so it finds no other one's change.
      return next(number == kSettler ? Pc::kPublishLost : Pc::kBeginChange);
    case Pc::kPublishLost:
      ++s.generation;
      return next(Pc::kClearLost);
    case Pc::kClearLost:
      s.changing = 0;
      LockTable(actor, Pc::kUnlockReading);
      return true;
    case Pc::kUnlockReading:
      s.table_lock = 0;
      actor.then = Pc::kEnded;
      return next(Pc::kReadMark);
    case Pc::kStoreTotals:
      StoreTotals(actor, s);
      LockTable(actor, Pc::kClearCarried);
      if (!scenario_.rules.stores_before_marking) next(Pc::kSettleDone);
      return true;
    case Pc::kClearCarried:
      ClearCarried(actor, s);
      return true;
    case Pc::kMarkSettled:
      if (s.settled == kModelSettling || !scenario_.rules.marks_settled_compared) {
        s.settled = 0;
        s.settled_epoch = actor.epoch;
        s.settled_units = actor.units;
      }
      UnlockTable(actor,
                  scenario_.rules.stores_before_marking ? Pc::kCompareBase : Pc::kStoreTotals);
      return true;
    case Pc::kCompareBase:
      if (BaseOf(StateOf(actor.value)) == StateOf(actor.value).base) return next(Pc::kSettleDone);
      LockTable(actor, Pc::kSetBase);
      return true;
    case Pc::kSetBase:
      SetBase(actor, s);
      return true;
    default:  // kSettleDone
      s.commit_lock = 0;
      actor = Actor{.pc = actor.left == 0 ? Pc::kEnded : Pc::kTakeCommitLock, .left = actor.left};
      return true;
  }
}

void SlotModel::ClearCarried(Actor& actor, ModelState& s) {
  if (s.claim != actor.claim) return UnlockTable(actor, Pc::kCompareBase);
  SlotState state = StateOf(s.state);
  const SlotState& settled = StateOf(actor.value);
  if (settled.carried_period.present != 0) state.carried_period = {};
  if (settled.carried_hour.present != 0) state.carried_hour = {};
  s.state = NumberOf(state);
  const bool carries = state.carried_period.present != 0 || state.carried_hour.present != 0;
  if (!carries) return Go(actor, Pc::kMarkSettled);
  UnlockTable(actor, Pc::kCompareBase);
}

// What the store says that others have used of the period.
std::int64_t SlotModel::BaseOf(const SlotState& state) const {
  return PeriodOf(state.period_start_s) == 0 ? scenario_.used_by_others : 0;
}

void SlotModel::SetBase(Actor& actor, ModelState& s) {
  const SlotState& state = StateOf(s.state);
  const SlotState& settled = StateOf(actor.value);
  const std::int64_t base = BaseOf(settled);
  if (s.claim != actor.claim || state.period_start_s != settled.period_start_s ||
      state.base == base) {
    return UnlockTable(actor, Pc::kSettleDone);
  }
  WriteIntent(actor,
              {.period_start_s = state.period_start_s,
               .period_end_ms = state.period_end_ms,
               .limit = state.limit,
               .limit_version = state.limit_version,
               .period_version = state.period_version,
               .base = base,
               .hour = state.hour},
              false, s);
}

// LeaseTable::ReadUnsettled and ReadSlot.
bool SlotModel::StepOfRead(int number, ModelState& s) {
  Actor& actor = s.actors[static_cast<std::size_t>(number)];
  const bool exchanges_first = scenario_.rules.exchanges_before_reading;
  const auto next = [&](Pc pc) {
    Go(actor, pc);
    return true;
  };
  const auto skip = [&] {
    actor = Actor{.pc = Pc::kSettleDone, .left = actor.left};
    return true;
  };
  switch (actor.pc) {
    case Pc::kReadMark:
      actor.refused = scenario_.settled_first ? s.settled : std::uint8_t{0};
      actor.epoch = scenario_.settled_first ? s.settled_epoch : s.epoch;
      actor.units = scenario_.settled_first ? s.settled_units : s.units;
      return next(Pc::kCompareMark);
    case Pc::kCompareMark: {
      const bool equal =
          scenario_.settled_first
              ? actor.refused == 0 && actor.epoch == s.epoch && actor.units == s.units
              : s.settled == 0 && actor.epoch == s.settled_epoch && actor.units == s.settled_units;
      actor = Actor{.pc = actor.pc, .left = actor.left};
      if (equal) return skip();
      return next(exchanges_first ? Pc::kExchangeMark : Pc::kSlotConsumed);
    }
    case Pc::kExchangeMark:
      s.settled = kModelSettling;
      s.settled_epoch = s.settled_units = 0;
      if (exchanges_first) return next(Pc::kSlotConsumed);
      if (scenario_.rules.stores_before_marking) return next(Pc::kStoreTotals);
      LockTable(actor, Pc::kClearCarried);
      return true;
    case Pc::kSlotConsumed:
      actor.epoch = s.epoch;
      actor.units = s.units;
      return next(Pc::kSlotIdentity);
    case Pc::kSlotIdentity:
      actor.claim = s.claim;
      actor.version = s.subject;
      return next(Pc::kSlotState);
    case Pc::kSlotState:
      actor.value = s.state;
      return next(Pc::kSlotRefused);
    case Pc::kSlotRefused:
      actor.refused = s.refused;
      return next(Pc::kSlotAgain);
    default:  // kSlotAgain
      if (scenario_.rules.reads_slot_twice && ((actor.epoch & 1) != 0 || s.epoch != actor.epoch)) {
        return skip();
      }
      if (!exchanges_first) return next(Pc::kExchangeMark);
      if (scenario_.rules.stores_before_marking) return next(Pc::kStoreTotals);
      LockTable(actor, Pc::kClearCarried);
      return true;
  }
}

// As AddSlot of the settler and a store: the rows of the period that is carried and of the running
// one, and of their hours.
void SlotModel::StoreTotals(const Actor& actor, ModelState& s) {
  ++s.seq;
  if (actor.version == kOther) return;
  const SlotState& state = StateOf(actor.value);
  const SlotTotals totals{.units = actor.units, .surplus = 0, .refused = {0, actor.refused, 0}};
  Stored stored = stores_[s.store];
  const auto settle = [&](const internal::PeriodTotal& total, bool close) {
    const std::size_t period = PeriodOf(total.start_s);
    const SettleRow row{
        .counter = {.subject = "k:one", .period_start = absl::FromUnixSeconds(total.start_s)},
        .period_end = absl::FromUnixMillis(total.end_ms),
        .limit = total.limit,
        .limit_version = total.limit_version,
        .seq = s.seq,
        .used = total.used,
        .keep = total.used,
        .close = close,
        .sole = true};
    std::vector<Event> events;
    const SettleReply reply = ApplySettle(row, absl::FromUnixMillis(kStart), {},
                                          stored.counters[period], stored.leases[period], events);
    Expect(reply.code == SettleCode::kApplied, "the store applies what is settled");
    Expect(reply.charged_to_all - reply.allowance == (period == 0 ? scenario_.used_by_others : 0),
           "the store tells apart what others have used");
  };
  const auto hour = [&](const internal::HourTotal& total) {
    stored.hours[static_cast<std::size_t>(total.hour - kStart / kHourMs)] = total;
  };
  if (state.carried_period.present != 0) settle(state.carried_period, true);
  settle({.present = 1,
          .start_s = state.period_start_s,
          .end_ms = state.period_end_ms,
          .limit = state.limit,
          .limit_version = state.limit_since,
          .used = totals.units},
         false);
  if (state.carried_hour.present != 0) hour(state.carried_hour);
  hour(RunningHour(state, totals));
  s.store = NumberOf(stored);
}

// --- ChangeGate::Apply, and another subject's request

bool SlotModel::StepOfChanger(int number, ModelState& s) {
  Actor& actor = s.actors[static_cast<std::size_t>(number)];
  const bool publishes_first = scenario_.rules.publishes_before_interrupt;
  switch (actor.pc) {
    case Pc::kBeginChange:
      s.changing = 1;
      Go(actor, Pc::kApply);
      return true;
    case Pc::kApply: {
      Stored stored = stores_[s.store];
      stored.version = 2;
      stored.revoked = scenario_.change == Change::kRevoke;
      s.store = NumberOf(stored);
      publishes_first ? Go(actor, Pc::kPublish) : LockTable(actor, Pc::kInterrupt);
      return true;
    }
    case Pc::kPublish:
      ++s.generation;
      Go(actor, Pc::kPublished);
      return true;
    case Pc::kPublished:
      s.changing = 0;
      publishes_first ? LockTable(actor, Pc::kInterrupt) : Go(actor, Pc::kReturn);
      return true;
    case Pc::kInterrupt:
      if (scenario_.rules.interrupt_moves_epoch) s.epoch = static_cast<std::uint8_t>(s.epoch + 2);
      UnlockTable(actor, publishes_first ? Pc::kReturn : Pc::kPublish);
      return true;
    case Pc::kReturn:
      s.commit_lock = 0;
      s.returned = 1;
      actor = Actor{};
      return true;
    default:  // kEvictRequest
      actor.now = scenario_.hours[s.hour];
      LockTable(actor, Pc::kBeginPick);
      return true;
  }
}

// --- For the explorer

std::optional<int> SlotModel::AloneHere(const ModelState& s) const {
  if (scenario_.explores_all) return std::nullopt;
  // The death of one of two threads is the other one's too.
  for (int i = scenario_.one_process ? 2 : 0; i < kActors; ++i) {
    switch (s.actors[static_cast<std::size_t>(i)].pc) {
      // Nobody in the model looks at this.
      case Pc::kTell:
      // Only who holds the table lock looks at these.
      case Pc::kIntentWhole:
      case Pc::kIntentValid:
      case Pc::kClearIntent:
      case Pc::kReleaseTableLock:
      case Pc::kUnlockReading:
      // The epoch is odd, or not the intent's, until the lock is given back.
      case Pc::kFrozen:
      // Both locks are held.
      case Pc::kClearCarried:
      // Only who holds the commit lock looks at these.
      case Pc::kBeginChange:
      case Pc::kPublished:
      case Pc::kClearLost:
      case Pc::kSettleDone:
        return i;
      default:
        break;
    }
  }
  return std::nullopt;
}

std::array<int, SlotModel::kActors + 2> SlotModel::Preferred(const ModelState& s) {
  return {s.table_lock - 1, s.commit_lock - 1, 0, 1, 2, 3};
}

void SlotModel::MakeCanonical(ModelState& s) const {
  const int actors = std::memcmp(&s.actors[0], &s.actors[1], sizeof(Actor));
  const int caches = std::memcmp(&s.caches[0], &s.caches[1], sizeof(Cache));
  const bool has_caches = !scenario_.one_process;
  if (actors < 0 || (actors == 0 && (!has_caches || caches <= 0))) return;
  std::swap(s.actors[0], s.actors[1]);
  if (has_caches) std::swap(s.caches[0], s.caches[1]);
  for (std::uint8_t* const lock : {&s.table_lock, &s.commit_lock}) {
    if (*lock == 1 || *lock == 2) *lock = static_cast<std::uint8_t>(3 - *lock);
  }
}

// --- What must hold

void SlotModel::CheckState(const ModelState& s) {
  const bool settled = (s.epoch & 1) == 0 && s.settled == 0 && s.settled_epoch == s.epoch &&
                       s.settled_units == s.units;
  if (!settled || s.subject != 0) return;
  const SlotState& state = StateOf(s.state);
  const Lease& lease = stores_[s.store].leases[PeriodOf(state.period_start_s)];
  Expect(state.carried_period.present == 0 && state.carried_hour.present == 0,
         "a slot that carries is not marked as settled");
  Expect(lease.used == s.units, "a settled mark hides no unit that the store does not have");
}

bool SlotModel::RunAlone(int actor, ModelState& s) {
  constexpr int kStepsMax = 500;
  for (int i = 0; i < kStepsMax; ++i) {
    if (IsOver(s.actors[static_cast<std::size_t>(actor)])) return true;
    if (!Move(actor, s)) break;
  }
  Expect(false, "whoever is left comes to an end");
  return false;
}

void SlotModel::CheckEnd(const ModelState& end) {
  ModelState s = end;
  for (Actor& actor : s.actors) actor = {};
  s.actors[kSettler] = {.pc = Pc::kTakeCommitLock, .left = 1};
  if (!RunAlone(kSettler, s)) return;
  CheckStored(s);
  if (scenario_.change != Change::kEvict) CheckSpentOut(s);
}

void SlotModel::CheckStored(const ModelState& s) {
  const Stored& stored = stores_[s.store];
  std::int64_t admitted = 0;
  std::int64_t told = 0;
  for (std::size_t period = 0; period < 2; ++period) {
    const std::int64_t others = period == 0 ? scenario_.used_by_others : 0;
    Expect(stored.counters[period].used == s.admitted[period] + others &&
               stored.leases[period].used == s.admitted[period],
           "the store ends with what was admitted in each period");
    Expect(s.told[period] <= s.admitted[period], "nothing is told that was not admitted");
    admitted += s.admitted[period];
    told += s.told[period];
  }
  Expect(admitted == told + s.untold, "at most a unit for each kill was admitted and not told");
  Expect(stored.version == 1 || (s.generation > 1 && s.changing == 0),
         "what a dead process has changed is published by the next settle");
  std::int64_t units = 0;
  std::int64_t refused = 0;
  for (const internal::HourTotal& hour : stored.hours) {
    units += hour.units;
    refused += hour.refused[static_cast<std::size_t>(RefusalKind::kQuotaExceeded)];
  }
  Expect(units == admitted, "the hours have what was admitted");
  if (scenario_.change == Change::kEvict) return;
  Expect(refused >= s.refusals_told && refused <= s.refused, "the hours have what was refused");
}

// What is left of the running period can still be spent, up to the limit.
void SlotModel::CheckSpentOut(ModelState s) {
  const Stored& stored = stores_[s.store];
  const std::size_t period = PeriodOf(AimAt(scenario_.hours[s.hour], 1).period_start_s);
  // As far as the slot knows: it hears of others when it is settled.
  const SlotState& state = StateOf(s.state);
  const std::int64_t others = PeriodOf(state.period_start_s) == period ? state.base : 0;
  const std::int64_t limit = stored.revoked ? 0 : LimitOf(stored.version) - others;
  const std::int64_t expected = std::max<std::int64_t>(s.admitted[period], limit);
  s.caches[0] = Cache{.generation = s.generation};
  s.actors[0] = {.pc = Pc::kRequest, .left = static_cast<std::uint8_t>(scenario_.limit + 1)};
  if (!RunAlone(0, s)) return;
  Expect(s.admitted[period] == expected, "no unit is stranded, and no key that is revoked spends");
}

}  // namespace throttl::testing

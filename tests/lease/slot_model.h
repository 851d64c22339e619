// A SlotModel is the state machine of one slot of the lease table, with the processes that work on
// it: two admitters, a settler and a changer, each of which may be killed before any step.
//
// A step is one access to what they share, named after the function of the library that makes it in
// StepText. What the library computes from values (TurnSlot, BeginSlot, RunningHour, ApplySettle)
// is the library's own. Left out are the shape of the index (a subject has the slot or not), costs
// other than 1, a third period, and the memory orders: a step happens at one moment.
//
// Thread safety: a value; one thread at a time.
//
//   SlotModel model({.limit = 2, .requests = 2, .hours = {0, 1}});
//   const Exploration found = Explore(model);
#ifndef THROTTL_TESTS_LEASE_SLOT_MODEL_H_
#define THROTTL_TESTS_LEASE_SLOT_MODEL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/container/flat_hash_map.h"

#include "throttl/settle.h"

#include "src/lease/slot_state.h"
#include "tests/lease/lease_parts.h"

namespace throttl::testing {

// What the model does otherwise than the library, to see that it is then found out.
struct Rules {
  bool closes_before_change = true;        // FinishIntent finds the epoch odd, and the units frozen
  bool writes_intent_first = true;         // WriteIntent before CloseSlot
  bool recovers = true;                    // AcquireTableLock calls Recover
  bool turns_from_intent = true;           // FinishIntent turns intent.old_state, not the slot's
  bool interrupt_moves_epoch = true;       // InterruptSlot
  bool reads_generation_again = true;      // TrySpend, between the read and the swap
  bool publishes_before_interrupt = true;  // ChangeGate::Tell
  bool checks_invalidations = true;        // KeyIndex::Insert with as_of
  bool recovers_publication = true;        // AcquireCommitLock, where `changing` is set
  bool compares_epoch = true;              // TrySpend, before it refuses
  bool compares_claim = true;              // TrySpend
  bool keeps_settled_compared = true;      // KeepSettled compares with what was frozen
  bool marks_settled_compared = true;      // MarkSettled compares with kSettling
  bool exchanges_before_reading = true;    // ReadUnsettled
  bool stores_before_marking = true;       // Settler::SettleSome
  bool reads_slot_twice = true;            // ReadSlot compares the epoch again
  bool begins_exactly = true;              // Begin closes a slot only as it was found
  bool begins_from_store = true;           // Validator::ReadStart
};

enum class Change : std::uint8_t {
  kNone,    // no changer
  kLower,   // Engine::PutPlan or UpdateKey with Scenario::limit_later
  kRevoke,  // Engine::RevokeKey
  kEvict,   // another subject begins in the only slot: LeaseTable::Begin
};

struct Scenario {
  std::string name = {};
  std::int64_t limit = 2;
  std::int64_t limit_later = 1;
  std::uint8_t requests = 2;  // of each admitter, of cost 1
  std::uint8_t settles = 1;   // of the settler
  Change change = Change::kNone;
  std::int64_t used_by_others = 0;  // of the first period, as the store has it and the slot not yet
  std::vector<std::uint8_t> hours = {0};  // that the clock goes through
  std::uint8_t period_hours = 1;
  bool one_process = false;    // the admitters are threads of one process, with one key index
  bool settled_first = false;  // ReadUnsettled reads `settled` before `consumed`, or after it
  bool explores_all = false;   // also the orders of steps that nobody else can see
  Rules rules = {};
};

enum class Pc : std::uint8_t;

// What one process has in its registers; 0 where it no longer matters.
struct Actor {
  std::uint16_t value = 0;  // an aim or a state
  std::uint16_t turn = 0;   // of a change that is being finished
  Pc pc = {};
  Pc then = {};           // after the table lock is taken or released, or a change is finished
  std::uint8_t left = 0;  // requests or settles
  std::uint8_t now = 0;   // hour
  std::uint8_t generation = 0;
  std::uint8_t version = 0;  // of the limit
  std::uint8_t claim = 0;
  std::uint8_t epoch = 0;  // of `consumed` as read
  std::uint8_t units = 0;
  std::uint8_t granted = 0;
  std::uint8_t refused = 0;
  std::uint8_t reuses = 0;
  std::uint8_t as_of = 0;
  std::uint8_t frozen = 0;  // units, of a change that is being finished
};

// The key index of a process.
struct Cache {
  std::uint8_t generation = 0;
  std::uint8_t invalidations = 0;
  std::uint8_t version = 0;  // 0: the key is not here
  std::uint8_t revoked = 0;
  std::uint8_t claim = 0;  // 0: no slot is known
  std::uint8_t spare = 0;
};

// HotSlot::settled: 0 where it has a value of `consumed`.
inline constexpr std::uint8_t kModelUnsettled = 1;
inline constexpr std::uint8_t kModelSettling = 2;

// Everything that there is.
struct ModelState {
  std::array<Actor, 4> actors = {};  // two admitters, the settler, the changer
  std::array<Cache, 2> caches = {};
  std::uint16_t state = 0;  // ColdSlot::state
  std::uint16_t store = 0;
  std::uint16_t intent_state = 0;  // SlotIntent::old_state
  std::uint16_t intent_aim = 0;
  std::uint8_t epoch = 0;  // HotSlot::consumed
  std::uint8_t units = 0;
  std::uint8_t granted = 0;
  std::uint8_t fresh = 0;  // HotSlot::fresh_until_ms, in hours
  std::uint8_t claim = 0;
  std::uint8_t settled = 0;
  std::uint8_t settled_epoch = 0;
  std::uint8_t settled_units = 0;
  std::uint8_t refused = 0;  // ColdSlot::refused
  std::uint8_t subject = 0;  // ColdSlot::identity: 0 is the subject of the admitters
  std::uint8_t reuses = 0;   // LeaseHeader
  std::uint8_t hour_min = 0;
  std::uint8_t newest = 0;  // LeaseHeader::newest_ms, in hours
  std::uint8_t spare = 0;
  std::uint8_t next_claim = 0;
  std::uint8_t intent_valid = 0;
  std::uint8_t intent_torn = 0;
  std::uint8_t intent_epoch = 0;
  std::uint8_t intent_claim = 0;
  std::uint8_t intent_begins = 0;
  std::uint8_t intent_reuses = 0;
  std::uint8_t intent_refused = 0;
  std::uint8_t intent_subject = 0;
  std::uint8_t changing = 0;
  std::uint8_t generation = 0;
  std::uint8_t seq = 0;
  std::uint8_t table_lock = 0;  // actor that holds it, plus one
  std::uint8_t commit_lock = 0;
  std::uint8_t hour = 0;  // of the clock, as a place in Scenario::hours
  // What nobody in the model sees.
  std::uint8_t returned = 0;  // 1: the change has returned
  std::uint8_t untold = 0;    // swaps whose process was killed before it could tell
  std::uint8_t refusals_told = 0;
  std::array<std::uint8_t, 2> admitted = {};  // swaps made, by period
  std::array<std::uint8_t, 2> told = {};      // units acknowledged, by period
};
static_assert(std::has_unique_object_representations_v<ModelState>);

// Gives equal values equal numbers.
template <typename Value>
class Numbered {
 public:
  template <typename Words>
  std::uint16_t NumberOf(const Words& words, const Value& value) {
    const auto [place, is_new] =
        numbers_.try_emplace(std::vector<std::int64_t>(words.begin(), words.end()),
                             static_cast<std::uint16_t>(values_.size()));
    if (is_new) values_.push_back(value);
    return place->second;
  }
  const Value& operator[](std::uint16_t number) const { return values_[number]; }

 private:
  absl::flat_hash_map<std::vector<std::int64_t>, std::uint16_t> numbers_;
  std::vector<Value> values_;
};

class SlotModel {
 public:
  static constexpr int kActors = 4;
  static constexpr int kMoves = 2 * kActors + 1;

  explicit SlotModel(Scenario scenario);

  const Scenario& scenario() const { return scenario_; }
  ModelState Initial();
  // Makes a move: a step of actor `move`, the kill of actor `move - kActors`, or the clock's. False
  // where it is not possible.
  bool Move(int move, ModelState& s);
  // What was found to be wrong; empty: nothing.
  const std::string& violation() const { return violation_; }

  // The actor whose next step and whose kill are all that need be explored here, for no other one
  // can see its step or make it see another thing: so the order of the two makes no difference.
  std::optional<int> AloneHere(const ModelState& s) const;
  // In which order the actors are let go on, so that all come to an end if nobody is killed: who
  // holds a lock first. Negative: nobody.
  static std::array<int, kActors + 2> Preferred(const ModelState& s);
  // The two admitters are alike: one of two equal states.
  void MakeCanonical(ModelState& s) const;
  // What must hold at any moment.
  void CheckState(const ModelState& s);
  // What must hold when nobody is left: settles, and then spends what is left.
  void CheckEnd(const ModelState& end);

 private:
  struct Stored {
    std::uint8_t version = 1;  // of the limit
    bool revoked = false;
    std::array<Counter, 2> counters = {};
    std::array<Lease, 2> leases = {};
    std::array<internal::HourTotal, 4> hours = {};
  };

  bool Step(int actor, ModelState& s);
  bool StepOfRequest(int actor, ModelState& s);
  bool StepOfSpend(int actor, ModelState& s);
  bool StepOfFind(int actor, ModelState& s);
  bool StepOfChange(int actor, ModelState& s);
  bool StepOfFinish(int actor, ModelState& s);
  bool StepOfSettle(int actor, ModelState& s);
  bool StepOfRead(int actor, ModelState& s);
  bool StepOfChanger(int actor, ModelState& s);
  bool IsPrivate(const ModelState& s, int actor) const;
  bool HasLastGeneration(const ModelState& s) const;
  void Kill(int actor, ModelState& s);
  void ForgetCaches(ModelState& s) const;
  Cache& CacheOf(int actor, ModelState& s) const;

  void Refuse(Actor& actor) const;
  void Swapped(Actor& actor, ModelState& s);
  void DecideFind(Actor& actor, ModelState& s);
  void DecideBegin(Actor& actor, int number, ModelState& s);
  void WriteIntent(Actor& actor, const internal::SlotAim& aim, bool begins, ModelState& s);
  void Frozen(Actor& actor, ModelState& s);
  Pc KeepSettled(const Actor& actor, ModelState& s) const;
  void ReadStart(Actor& actor, const ModelState& s);
  void ClearCarried(Actor& actor, ModelState& s);
  std::int64_t BaseOf(const internal::SlotState& state) const;
  void SetBase(Actor& actor, ModelState& s);
  void StoreTotals(const Actor& actor, ModelState& s);

  bool RunAlone(int actor, ModelState& s);
  void CheckStored(const ModelState& s);
  void CheckSpentOut(ModelState s);
  internal::SlotAim AimAt(std::uint8_t hour, std::uint8_t version) const;
  std::size_t PeriodOf(std::int64_t start_s) const;
  std::int64_t LimitOf(std::uint8_t version) const;
  const internal::SlotState& StateOf(std::uint16_t number);
  void Expect(bool holds, const char* promise);

  std::uint16_t NumberOf(const internal::SlotState& state);
  std::uint16_t NumberOf(const internal::SlotAim& aim);
  std::uint16_t NumberOf(const internal::SlotTurn& turn);
  std::uint16_t NumberOf(const Stored& stored);

  const Scenario scenario_;
  std::string violation_;
  Numbered<internal::SlotState> states_;
  Numbered<internal::SlotAim> aims_;
  Numbered<internal::SlotTurn> turns_;
  Numbered<Stored> stores_;
};

// What the move does, as "an actor: Function: what".
std::string MoveText(int move, const ModelState& before);

struct Exploration {
  std::int64_t states = 0;
  std::int64_t transitions = 0;
  std::int64_t ends = 0;       // states in which everybody has ended or is dead
  std::string violation = {};  // empty: none
  std::string path = {};       // a shortest way to it, one move a line
};

// Goes to every state that can be reached, nearest first, until something is wrong.
Exploration Explore(SlotModel& model);

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_LEASE_SLOT_MODEL_H_

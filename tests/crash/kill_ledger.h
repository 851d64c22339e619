// A KillLedger is the kill test's own account of what was acknowledged, in memory that the workers
// share with their parent, so that it outlives any of them.
//
// Keys belong to lanes: one thread of one worker changes the keys of a lane, one call at a time.
// Before a call the lane says what the key will be if the call succeeds; when it returned OK, the
// lane says so. A worker that is killed leaves at most one call in each lane of which it is not
// known whether it happened: it must have happened whole, or not at all.
//
// Thread safety: a lane belongs to its thread, and after its worker's death to the checker. The
// report and the atomic members are for all.
//
//   lane.Announce(key, call);  ...  lane.Acknowledge();
#ifndef THROTTL_TESTS_CRASH_KILL_LEDGER_H_
#define THROTTL_TESTS_CRASH_KILL_LEDGER_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "throttl/key.h"

#include "src/base/random_bytes.h"
#include "tests/crash/crash_parts.h"

namespace throttl::testing {

inline constexpr std::size_t kWorkersMax = 3;
inline constexpr std::size_t kLanesOfWorker = 2;
inline constexpr std::size_t kLanes = kWorkersMax * kLanesOfWorker;
inline constexpr std::size_t kKeysOfLane = 8192;

enum class KillCall : std::uint8_t {
  kNone = 0,
  kCreate = 1,
  kRotate = 2,
  kRotateWithOverlap = 3,
  kUpdate = 4,
  kRevoke = 5
};

struct LedgerSecret {
  std::array<char, 13> locator = {};  // empty: no secret
  Sha256Digest digest = {};

  std::string Locator() const { return locator.data(); }
};

// What a key must be.
struct LedgerKey {
  std::int64_t version = 0;           // 0: it must not be there
  std::int64_t settings_version = 0;  // of the create or update that its settings come from
  std::int64_t life = 0;              // the life of a worker that changed it last
  bool revoked = false;
  LedgerSecret newest = {};
  LedgerSecret older = {};
  KillCall last_call = KillCall::kNone;
};

// What the event log says of a key, which the checker counts.
struct LedgerEvents {
  std::int64_t count = 0;
  KillCall last = KillCall::kNone;  // kRotate for both kinds
  std::array<char, 13> last_locator = {};
};

class Lane {
 public:
  enum class Phase : std::uint8_t { kIdle = 0, kCalled = 1, kAcknowledged = 2 };

  // The call that follows will leave key `number` as `after`.
  void Announce(std::size_t number, const LedgerKey& after);
  // It returned OK. A kill at any instant leaves it announced or acknowledged, never in between.
  void Acknowledge();
  // It did not happen: what was announced is forgotten.
  void Withdraw();

  Phase phase() const { return phase_.load(); }
  std::size_t called_number() const { return number_; }
  const LedgerKey& called() const { return after_; }
  // Enters an acknowledged call that a kill has kept from it.
  void EnterAcknowledged();

  std::size_t key_count() const { return key_count_; }
  const LedgerKey& key(std::size_t number) const { return keys_[number]; }
  std::int64_t acknowledged() const { return acknowledged_.load(); }

  std::array<LedgerEvents, kKeysOfLane> events = {};

 private:
  std::atomic<Phase> phase_ = Phase::kIdle;
  std::size_t number_ = 0;
  LedgerKey after_ = {};
  std::size_t key_count_ = 0;
  std::array<LedgerKey, kKeysOfLane> keys_ = {};
  std::atomic<std::int64_t> acknowledged_ = 0;
};

struct KillLedger {
  std::array<Lane, kLanes> lanes = {};
  std::array<std::atomic<bool>, kWorkersMax> open = {};
  Report report;
  // Of the checker.
  std::int64_t events_seq = 0;
  std::int64_t lost = 0;
  std::int64_t half_made = 0;
  std::int64_t unacknowledged_whole = 0;
  std::int64_t unacknowledged_absent = 0;
  std::array<char, 64> integrity = {};
};

std::string LaneKeyId(std::size_t lane, std::size_t number);

// The settings of key `number` as the create or update to `version` writes them.
Key SettingsOfVersion(std::size_t lane, std::size_t number, std::int64_t version);

// `before` after a call that succeeded; `issued` is the new secret where the call makes one.
LedgerKey AfterCall(const LedgerKey& before, KillCall call, const LedgerSecret& issued);

LedgerSecret LedgerSecretOf(std::string_view secret);

// Draws from the generator of the calling thread, which SeedThisThread sets: so a call's secret can
// be told beforehand, and its digest is known although the call was never acknowledged.
internal::RandomBytes ThreadRandom();
void SeedThisThread(std::uint64_t seed);
LedgerSecret PredictSecret(std::uint64_t seed);

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_CRASH_KILL_LEDGER_H_

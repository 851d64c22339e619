#include "tests/crash/kill_worker.h"

#include <algorithm>
#include <array>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

#include "throttl/engine.h"

namespace throttl::testing {
namespace {

// Old keys are left alone, so that the checker has an end: it reads what a life has changed.
constexpr std::size_t kRecentKeys = 64;
constexpr absl::Duration kOverlap = absl::Hours(1);

class LaneThread {
 public:
  LaneThread(Engine& engine, Lane& lane, std::size_t lane_number, std::int64_t life,
             std::uint64_t seed)
      : engine_(engine), lane_(lane), lane_number_(lane_number), life_(life), draw_(seed) {}

  // Makes calls until one fails, which it answers.
  absl::Status Run() {
    for (;;) {
      const std::size_t number = ChooseKey();
      const LedgerKey before = lane_.key(number);
      const KillCall call = ChooseCall(before);
      const std::uint64_t seed = draw_();
      LedgerKey after = AfterCall(before, call, PredictSecret(seed));
      after.life = life_;
      lane_.Announce(number, after);
      absl::Status status = Make(call, number, before);
      if (!status.ok()) return status;
      lane_.Acknowledge();
    }
  }

 private:
  bool full() const { return lane_.key_count() == kKeysOfLane; }

  std::size_t ChooseKey() {
    const std::size_t count = lane_.key_count();
    if (!full() && (count == 0 || draw_() % 4 == 0)) return count;
    const std::size_t recent = std::min(count, kRecentKeys);
    for (std::size_t i = 0; i < kRecentKeys; ++i) {
      const std::size_t number = count - 1 - draw_() % recent;
      if (!lane_.key(number).revoked) return number;
    }
    return full() ? count - 1 : count;  // a full lane revokes no more, so one is found
  }

  KillCall ChooseCall(const LedgerKey& before) {
    if (before.version == 0) return KillCall::kCreate;
    const std::uint64_t part = draw_() % 10;
    if (part < 3) return KillCall::kRotate;
    if (part < 6) return KillCall::kRotateWithOverlap;
    return part < 9 || full() ? KillCall::kUpdate : KillCall::kRevoke;
  }

  absl::Status Make(KillCall call, std::size_t number, const LedgerKey& before) {
    const std::string id = LaneKeyId(lane_number_, number);
    switch (call) {
      case KillCall::kCreate:
        return CheckIssued(engine_.CreateKey(SettingsOfVersion(lane_number_, number, 1)));
      case KillCall::kRotate:
        return CheckIssued(engine_.RotateKey(id));
      case KillCall::kRotateWithOverlap:
        return CheckIssued(engine_.RotateKey(id, {.overlap = kOverlap}));
      case KillCall::kUpdate: {
        Key key = SettingsOfVersion(lane_number_, number, before.version + 1);
        key.version = before.version;
        const auto updated = engine_.UpdateKey(key);
        return updated.ok() ? CheckVersion(*updated) : updated.status();
      }
      case KillCall::kRevoke:
        return engine_.RevokeKey(id);
      case KillCall::kNone:
        break;
    }
    return absl::InternalError("no call was chosen");
  }

  // What the call returned must be what the ledger is going to hold.
  absl::Status CheckVersion(const Key& key) const {
    if (key.version == lane_.called().version) return absl::OkStatus();
    return absl::InternalError(
        absl::StrCat(key.id, " has version ", key.version, ", expected ", lane_.called().version));
  }

  absl::Status CheckIssued(const absl::StatusOr<IssuedKey>& issued) const {
    if (!issued.ok()) return issued.status();
    const LedgerSecret shown = LedgerSecretOf(issued->secret.Reveal());
    const LedgerSecret& expected = lane_.called().newest;
    if (shown.digest != expected.digest || shown.locator != expected.locator ||
        issued->key.secrets.front().locator != expected.Locator()) {
      return absl::InternalError(absl::StrCat(issued->key.id,
                                              " has a secret that its seed does not "
                                              "foretell"));
    }
    return CheckVersion(issued->key);
  }

  Engine& engine_;
  Lane& lane_;
  const std::size_t lane_number_;
  const std::int64_t life_;
  std::mt19937_64 draw_;
};

}  // namespace

int RunKillWorker(const KillWorkerOptions& options, KillLedger& ledger) {
  SeedThisThread(options.seed);
  auto engine = Engine::Open(
      absl::StrCat("sqlite:", options.path, "?durability=", options.power ? "power" : "process"),
      {.settle_thread = false, .random = ThreadRandom()});
  if (!engine.ok()) {
    ledger.report.Add("a worker cannot open: " + engine.status().ToString());
    return 1;
  }
  ledger.open[options.worker] = true;
  std::array<std::thread, kLanesOfWorker> threads;
  for (std::size_t i = 0; i < kLanesOfWorker; ++i) {
    threads[i] = std::thread([&ledger, &engine, &options, i] {
      const std::size_t number = options.worker * kLanesOfWorker + i;
      SeedThisThread(options.seed + i);
      LaneThread lane(**engine, ledger.lanes[number], number, options.life, options.seed + 1 + i);
      ledger.report.Add(absl::StrCat("lane ", number, ": ", lane.Run().ToString()));
    });
  }
  for (std::thread& thread : threads) thread.join();
  return 1;
}

}  // namespace throttl::testing

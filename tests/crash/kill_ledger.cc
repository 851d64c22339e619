#include "tests/crash/kill_ledger.h"

#include <algorithm>
#include <random>
#include <span>

#include "absl/strings/str_cat.h"

#include "src/key/secret_format.h"

namespace throttl::testing {
namespace {

std::mt19937_64& ThreadGenerator() {
  thread_local std::mt19937_64 generator;
  return generator;
}

}  // namespace

void Lane::Announce(std::size_t number, const LedgerKey& after) {
  number_ = number;
  after_ = after;
  phase_.store(Phase::kCalled);
}

void Lane::Acknowledge() {
  phase_.store(Phase::kAcknowledged);
  EnterAcknowledged();
  acknowledged_.fetch_add(1);
}

void Lane::EnterAcknowledged() {
  keys_[number_] = after_;
  key_count_ = std::max(key_count_, number_ + 1);
  phase_.store(Phase::kIdle);
}

void Lane::Withdraw() { phase_.store(Phase::kIdle); }

std::string LaneKeyId(std::size_t lane, std::size_t number) {
  return absl::StrCat("lane", lane, "-", number);
}

Key SettingsOfVersion(std::size_t lane, std::size_t number, std::int64_t version) {
  return {.owner_id = absl::StrCat("owner", lane),
          .plan_id = version % 2 == 0 ? "pro" : "free",
          .name = absl::StrCat("version ", version),
          .scopes = {absl::StrCat("read", version), absl::StrCat("write", version)},
          .rate_limits = {{.name = "limit", .limit = version + 1}},
          .id = LaneKeyId(lane, number)};
}

LedgerKey AfterCall(const LedgerKey& before, KillCall call, const LedgerSecret& issued) {
  LedgerKey after = before;
  ++after.version;
  after.last_call = call;
  switch (call) {
    case KillCall::kCreate:
      after.newest = issued;
      after.settings_version = after.version;
      break;
    case KillCall::kRotate:
    case KillCall::kRotateWithOverlap:
      after.older = call == KillCall::kRotateWithOverlap ? before.newest : LedgerSecret{};
      after.newest = issued;
      break;
    case KillCall::kUpdate:
      after.settings_version = after.version;
      break;
    case KillCall::kRevoke:
      after.revoked = true;
      break;
    case KillCall::kNone:
      break;
  }
  return after;
}

LedgerSecret LedgerSecretOf(std::string_view secret) {
  LedgerSecret known{.digest = Sha256(secret)};
  const auto parts = internal::ParseSecret(secret);
  if (parts.has_value())
    std::copy(parts->locator.begin(), parts->locator.end(), known.locator.begin());
  return known;
}

internal::RandomBytes ThreadRandom() {
  return [](std::span<std::uint8_t> bytes) {
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(ThreadGenerator()());
  };
}

void SeedThisThread(std::uint64_t seed) { ThreadGenerator().seed(seed); }

LedgerSecret PredictSecret(std::uint64_t seed) {
  SeedThisThread(seed);
  const auto secret = internal::GenerateSecret("thr_live", ThreadRandom());
  SeedThisThread(seed);
  return secret.ok() ? LedgerSecretOf(secret->Reveal()) : LedgerSecret{};
}

}  // namespace throttl::testing

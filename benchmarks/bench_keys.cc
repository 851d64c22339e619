#include "benchmarks/bench_keys.h"

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <random>
#include <span>

#include "absl/strings/str_cat.h"

#include "throttl/secret.h"

#include "src/key/secret_format.h"

namespace throttl::benchmarks {

void Require(bool holds, std::string_view what) {
  if (holds) return;
  std::cerr << "the benchmark cannot go on: " << what << "\n";
  std::exit(1);
}

BenchKeys::BenchKeys(std::size_t count) : size_(count), secrets_(count, internal::PageKind::kHuge) {
  std::mt19937_64 random(1);
  const auto fill = [&random](std::span<std::uint8_t> bytes) {
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
  };
  for (std::size_t number = 0; number < count; ++number) {
    Text& secret = secrets_[number];
    const auto made = internal::GenerateSecret("thr_live", fill);
    Require(made.ok(), "no secret could be made");
    const std::string_view text = made->Reveal();
    std::copy(text.begin(), text.end(), secret.text.begin());
    secret.size = static_cast<std::uint8_t>(text.size());
  }
}

std::string BenchKeys::IdOf(std::size_t number) {
  return absl::StrCat("key_", absl::Dec(number, absl::kZeroPad20));
}

std::string BenchKeys::OwnerOf(std::size_t number) { return absl::StrCat("owner_", number / 10); }

KeyRecord BenchKeys::RecordOf(std::size_t number) const {
  const auto parts = internal::ParseSecret(secret(number));
  const absl::Time created = absl::FromUnixSeconds(1'700'000'000);
  KeyRecord record;
  record.key.id = IdOf(number);
  record.key.owner_id = OwnerOf(number);
  record.key.plan_id = kPlanId;
  record.key.created_at = created;
  record.key.version = 1;
  record.secrets.push_back({.info = {.locator = std::string(parts->locator),
                                     .last4 = std::string(parts->last4),
                                     .created_at = created},
                            .digest = Sha256(secret(number))});
  return record;
}

void BenchKeys::PutInto(QuotaStore& store, std::size_t count) const {
  ChangeSet plan{.id = "plan"};
  plan.put_plans.push_back(
      {.id = kPlanId, .quota = Quota{.limit = 1'000'000'000'000}, .version = 1});
  const auto put = store.Apply(plan);
  Require(put.ok(), put.status().ToString());
  for (std::size_t number = 0; number < count;) {
    ChangeSet changes{.id = absl::StrCat("keys_", number)};
    const std::size_t end = std::min<std::size_t>(number + kStoreBatchMax, count);
    for (; number < end; ++number) changes.put_keys.push_back(RecordOf(number));
    const auto applied = store.Apply(changes);
    Require(applied.ok(), applied.status().ToString());
  }
}

}  // namespace throttl::benchmarks

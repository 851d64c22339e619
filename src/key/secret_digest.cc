#include "src/key/secret_digest.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "src/base/sha256.h"

namespace throttl::internal {
namespace {

constexpr std::int32_t kPepperVersionMax = 1000;
constexpr std::size_t kPepperSizeMin = 16;
constexpr std::size_t kPepperSizeMax = 64;

}  // namespace

absl::StatusOr<PepperSet> PepperSet::Create(std::span<const Pepper> peppers) {
  for (const Pepper& pepper : peppers) {
    if (pepper.version < 1 || pepper.version > kPepperVersionMax) {
      return absl::InvalidArgumentError(absl::StrCat("a pepper's version is ", pepper.version,
                                                     ", 1 to ", kPepperVersionMax, " is allowed"));
    }
    const std::size_t size = pepper.value.Reveal().size();
    if (size < kPepperSizeMin || size > kPepperSizeMax) {
      return absl::InvalidArgumentError(absl::StrCat("the pepper of version ", pepper.version,
                                                     " has ", size, " bytes, ", kPepperSizeMin,
                                                     " to ", kPepperSizeMax, " are allowed"));
    }
  }
  std::vector<Pepper> sorted(peppers.begin(), peppers.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const Pepper& a, const Pepper& b) { return a.version < b.version; });
  const auto twice =
      std::adjacent_find(sorted.begin(), sorted.end(),
                         [](const Pepper& a, const Pepper& b) { return a.version == b.version; });
  if (twice != sorted.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("pepper version ", twice->version, " is given more than once"));
  }
  return PepperSet(std::move(sorted));
}

PepperSet::PepperSet(std::vector<Pepper> peppers) : peppers_(std::move(peppers)) {}

std::int32_t PepperSet::newest_version() const {
  return peppers_.empty() ? 0 : peppers_.back().version;
}

bool PepperSet::Has(std::int32_t version) const { return version == 0 || Find(version) != nullptr; }

absl::StatusOr<Sha256Digest> PepperSet::Digest(const Sha256Digest& sha256,
                                               std::int32_t pepper_version) const {
  if (pepper_version == 0) return sha256;
  const Pepper* pepper = Find(pepper_version);
  if (pepper == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("pepper version ", pepper_version, " was not given"));
  }
  return HmacSha256(pepper->value.Reveal(), DigestBytes(sha256));
}

const Pepper* PepperSet::Find(std::int32_t version) const {
  const auto found = std::lower_bound(
      peppers_.begin(), peppers_.end(), version,
      [](const Pepper& pepper, std::int32_t wanted) { return pepper.version < wanted; });
  return found == peppers_.end() || found->version != version ? nullptr : &*found;
}

}  // namespace throttl::internal

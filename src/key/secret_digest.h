// A PepperSet turns the SHA-256 of a secret into the digest that the store keeps.
//
// Thread safety: immutable; all methods from any thread.
//
//   auto peppers = PepperSet::Create(options.peppers);
//   auto digest = peppers->Digest(Sha256(secret), peppers->newest_version());
#ifndef THROTTL_SRC_KEY_SECRET_DIGEST_H_
#define THROTTL_SRC_KEY_SECRET_DIGEST_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

#include "throttl/engine.h"
#include "throttl/secret.h"

namespace throttl::internal {

class PepperSet {
 public:
  // Copies the peppers. InvalidArgument: a version or the size of a value is out of its bounds, or
  // a version is there twice. No pepper is fine.
  static absl::StatusOr<PepperSet> Create(std::span<const Pepper> peppers);

  // The highest version, for new digests; 0 without peppers.
  std::int32_t newest_version() const;
  // Whether digests of that version can be computed. Version 0, which means no pepper, always can.
  bool Has(std::int32_t version) const;
  // HMAC-SHA-256(pepper, sha256), or `sha256` itself for version 0. FailedPrecondition: a pepper of
  // that version was not given.
  absl::StatusOr<Sha256Digest> Digest(const Sha256Digest& sha256,
                                      std::int32_t pepper_version) const;

 private:
  explicit PepperSet(std::vector<Pepper> peppers);
  const Pepper* Find(std::int32_t version) const;

  std::vector<Pepper> peppers_;  // by version
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_KEY_SECRET_DIGEST_H_

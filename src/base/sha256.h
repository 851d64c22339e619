// SHA-256 (FIPS 180-4) and HMAC-SHA-256 (RFC 2104), and their comparison.
//
// Thread safety: all functions from any thread, in a forked child, and while a thread or the
// process ends.
//
//   const Sha256Digest digest = Sha256Of({"throttl ", text});
#ifndef THROTTL_SRC_BASE_SHA256_H_
#define THROTTL_SRC_BASE_SHA256_H_

#include <initializer_list>
#include <string_view>

#include "throttl/secret.h"

namespace throttl::internal {

// The hash of the parts one after the other. Allocates only the first time in a thread, and like
// every allocation throws std::bad_alloc without memory; there is no other failure, and never a
// digest of a text that was not hashed. A host's openssl.cnf does not change that.
Sha256Digest Sha256Of(std::initializer_list<std::string_view> parts);

// The same conditions. The key may have any length; what was derived from it is wiped.
Sha256Digest HmacSha256(std::string_view key, std::string_view message);

// Takes the same time wherever they differ.
bool DigestsEqual(const Sha256Digest& a, const Sha256Digest& b);

// The 32 bytes as text, valid as long as `digest`.
std::string_view DigestBytes(const Sha256Digest& digest);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_BASE_SHA256_H_

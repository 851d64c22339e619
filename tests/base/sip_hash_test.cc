#include "src/base/sip_hash.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include <doctest/doctest.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <rapidcheck.h>

namespace throttl::internal {
namespace {

constexpr std::size_t kKeyBytes = sizeof(SipKey);

SipKey KeyOf(const std::array<unsigned char, kKeyBytes>& bytes) {
  SipKey key;
  std::memcpy(key.data(), bytes.data(), kKeyBytes);
  return key;
}

// The key of the reference implementation's vectors: bytes 0 to 15.
std::array<unsigned char, kKeyBytes> ReferenceKey() {
  std::array<unsigned char, kKeyBytes> key = {};
  for (std::size_t i = 0; i < key.size(); ++i) key[i] = static_cast<unsigned char>(i);
  return key;
}

// The text of its vectors: bytes 0, 1, 2, ...
std::string ReferenceText(std::size_t size) {
  std::string text;
  for (std::size_t i = 0; i < size; ++i) text.push_back(static_cast<char>(i));
  return text;
}

std::string Hex(const SipTag& tag) {
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(tag.data()), sizeof(tag)));
}

std::string OfOpenSsl(const std::array<unsigned char, kKeyBytes>& key, std::string_view text) {
  EVP_MAC* algorithm = EVP_MAC_fetch(nullptr, "SIPHASH", nullptr);
  EVP_MAC_CTX* context = EVP_MAC_CTX_new(algorithm);
  std::size_t tag_bytes = sizeof(SipTag);
  const OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t("size", &tag_bytes),
                               OSSL_PARAM_construct_end()};
  SipTag tag = {};
  std::size_t written = 0;
  REQUIRE(EVP_MAC_init(context, key.data(), key.size(), params) == 1);
  REQUIRE(EVP_MAC_update(context, reinterpret_cast<const unsigned char*>(text.data()),
                         text.size()) == 1);
  REQUIRE(EVP_MAC_final(context, reinterpret_cast<unsigned char*>(tag.data()), &written,
                        sizeof(tag)) == 1);
  REQUIRE(written == sizeof(tag));
  EVP_MAC_CTX_free(context);
  EVP_MAC_free(algorithm);
  return Hex(tag);
}

// vectors_sip128 of the reference implementation (github.com/veorq/SipHash, vectors.h).
TEST_CASE("SipHash128 gives the vectors of the reference implementation") {
  const SipKey key = KeyOf(ReferenceKey());
  CHECK(Hex(SipHash128(key, ReferenceText(0))) == "a3817f04ba25a8e66df67214c7550293");
  CHECK(Hex(SipHash128(key, ReferenceText(1))) == "da87c1d86b99af44347659119b22fc45");
  CHECK(Hex(SipHash128(key, ReferenceText(2))) == "8177228da4a45dc7fca38bdef60affe4");
  CHECK(Hex(SipHash128(key, ReferenceText(15))) == "5493e99933b0a8117e08ec0f97cfc3d9");
  CHECK(Hex(SipHash128(key, ReferenceText(63))) == "5150d1772f50834a503e069a973fbd7c");
}

TEST_CASE("SipHash128 agrees with OpenSSL at every length of the reference vectors") {
  for (std::size_t size = 0; size < 64; ++size) {
    CAPTURE(size);
    CHECK(Hex(SipHash128(KeyOf(ReferenceKey()), ReferenceText(size))) ==
          OfOpenSsl(ReferenceKey(), ReferenceText(size)));
  }
}

TEST_CASE("SipHash128 agrees with OpenSSL under any key and of any text") {
  rc::check([](const std::array<unsigned char, kKeyBytes>& key, const std::string& text) {
    RC_ASSERT(Hex(SipHash128(KeyOf(key), text)) == OfOpenSsl(key, text));
  });
}

TEST_CASE("tags that differ in any one bit are not equal") {
  const SipTag tag = SipHash128({1, 2}, "text");
  CHECK(EqualInConstantTime(tag, tag));
  for (std::size_t bit = 0; bit < 128; ++bit) {
    SipTag other = tag;
    other[bit / 64] ^= std::uint64_t{1} << (bit % 64);
    CAPTURE(bit);
    CHECK_FALSE(EqualInConstantTime(tag, other));
  }
}

}  // namespace
}  // namespace throttl::internal

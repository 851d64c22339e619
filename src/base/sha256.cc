#include "src/base/sha256.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <new>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/provider.h>

#include "src/base/wipe.h"

namespace throttl::internal {
namespace {

constexpr std::size_t kBlockSize = 64;

// Made once and never freed. It belongs to a library context of our own: there the default provider
// is active even if the host's openssl.cnf switches it off, and OpenSSL's clean-up at exit leaves
// it alone. Fetching once and keeping a context make a short hash several times faster.
const EVP_MD* TheAlgorithm() {
  static std::atomic<const EVP_MD*> algorithm = nullptr;
  if (const EVP_MD* known = algorithm.load(std::memory_order_acquire)) return known;
  // Threads may race to here and the losers throw theirs away. A lock, which a static with an
  // initialiser also is, would stay locked in the child of a fork that comes in between.
  OSSL_LIB_CTX* library = OSSL_LIB_CTX_new();
  OSSL_PROVIDER* provider = library == nullptr ? nullptr : OSSL_PROVIDER_load(library, "default");
  EVP_MD* fetched = provider == nullptr ? nullptr : EVP_MD_fetch(library, "SHA256", nullptr);
  const EVP_MD* winner = nullptr;
  if (fetched != nullptr && algorithm.compare_exchange_strong(winner, fetched)) return fetched;
  EVP_MD_free(fetched);
  if (provider != nullptr) OSSL_PROVIDER_unload(provider);
  OSSL_LIB_CTX_free(library);
  if (winner == nullptr) throw std::bad_alloc();
  return winner;
}

class HashContext {
 public:
  HashContext() : context_(EVP_MD_CTX_new()) {
    if (context_ == nullptr) throw std::bad_alloc();
  }
  ~HashContext() { EVP_MD_CTX_free(context_); }
  HashContext(const HashContext&) = delete;
  HashContext& operator=(const HashContext&) = delete;

  Sha256Digest Hash(std::initializer_list<std::string_view> parts) {
    Sha256Digest digest = {};
    bool ok = EVP_DigestInit_ex2(context_, TheAlgorithm(), nullptr) == 1;
    for (const std::string_view part : parts) {
      ok = ok && EVP_DigestUpdate(context_, part.data(), part.size()) == 1;
    }
    ok = ok && EVP_DigestFinal_ex(context_, digest.data(), nullptr) == 1;
    if (!ok) throw std::bad_alloc();  // a digest that is not one must never come out
    return digest;
  }

 private:
  EVP_MD_CTX* context_;
};

// Without a destructor, so that destructors that run after ThreadContext's may still read it.
thread_local bool thread_is_ending = false;

struct ThreadContext {
  ThreadContext() = default;
  ThreadContext(const ThreadContext&) = delete;
  ThreadContext& operator=(const ThreadContext&) = delete;
  ~ThreadContext() { thread_is_ending = true; }

  HashContext context;
};

}  // namespace

Sha256Digest Sha256Of(std::initializer_list<std::string_view> parts) {
  if (thread_is_ending) return HashContext().Hash(parts);
  thread_local ThreadContext own;
  return own.context.Hash(parts);
}

Sha256Digest HmacSha256(std::string_view key, std::string_view message) {
  Sha256Digest short_key = {};
  if (key.size() > kBlockSize) {
    short_key = Sha256Of({key});
    key = DigestBytes(short_key);
  }
  std::array<char, kBlockSize> inner_pad;
  std::array<char, kBlockSize> outer_pad;
  for (std::size_t i = 0; i < kBlockSize; ++i) {
    const char byte = i < key.size() ? key[i] : '\0';
    inner_pad[i] = static_cast<char>(byte ^ 0x36);
    outer_pad[i] = static_cast<char>(byte ^ 0x5c);
  }
  const Sha256Digest inner = Sha256Of({{inner_pad.data(), kBlockSize}, message});
  const Sha256Digest outer = Sha256Of({{outer_pad.data(), kBlockSize}, DigestBytes(inner)});
  Wipe(short_key.data(), short_key.size());
  Wipe(inner_pad.data(), inner_pad.size());
  Wipe(outer_pad.data(), outer_pad.size());
  return outer;
}

bool DigestsEqual(const Sha256Digest& a, const Sha256Digest& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string_view DigestBytes(const Sha256Digest& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

}  // namespace throttl::internal

#include "src/base/sha256.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/escaping.h"
#include <doctest/doctest.h>
#include <rapidcheck.h>

#include "src/base/absl_string.h"

namespace throttl::internal {
namespace {

constexpr char kAbcHash[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

std::string Hex(const Sha256Digest& digest) {
  return absl::BytesToHexString(AbslView(DigestBytes(digest)));
}

// Made before OpenSSL was used, so it goes after OpenSSL has cleaned up and the thread has ended.
struct HashAtExit {
  ~HashAtExit() {
    if (Hex(Sha256Of({"abc"})) != kAbcHash) _exit(70);
  }
} hash_at_exit;

// FIPS 180-4 (examples of NIST), and a million times 'a' of FIPS 180-2.
TEST_CASE("Sha256Of gives the digests of the standard's examples") {
  CHECK(Hex(Sha256Of({})) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(Hex(Sha256Of({""})) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(Hex(Sha256Of({"abc"})) == kAbcHash);
  CHECK(Hex(Sha256Of({"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"})) ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(Hex(Sha256Of({"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
                      "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu"})) ==
        "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  CHECK(Hex(Sha256Of({std::string(1'000'000, 'a')})) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("the hash of the parts is that of the parts one after the other") {
  rc::check([](const std::string& a, const std::string& b, const std::string& c) {
    RC_ASSERT(Sha256Of({a, b, c}) == Sha256Of({a + b + c}));
  });
}

// RFC 4231, test cases 1 to 7. Case 5 gives the first 128 bits only.
TEST_CASE("HmacSha256 gives the values of RFC 4231") {
  const std::string counting =
      absl::HexStringToBytes("0102030405060708090a0b0c0d0e0f10111213141516171819");
  CHECK(Hex(HmacSha256(std::string(20, '\x0b'), "Hi There")) ==
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  CHECK(Hex(HmacSha256("Jefe", "what do ya want for nothing?")) ==
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  CHECK(Hex(HmacSha256(std::string(20, '\xaa'), std::string(50, '\xdd'))) ==
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
  CHECK(Hex(HmacSha256(counting, std::string(50, '\xcd'))) ==
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
  CHECK(Hex(HmacSha256(std::string(20, '\x0c'), "Test With Truncation")).substr(0, 32) ==
        "a3b6167473100ee06e0c796c2955552b");
  CHECK(Hex(HmacSha256(std::string(131, '\xaa'),
                       "Test Using Larger Than Block-Size Key - Hash Key First")) ==
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
  CHECK(Hex(HmacSha256(std::string(131, '\xaa'),
                       "This is a test using a larger than block-size key and a larger than "
                       "block-size data. The key needs to be hashed before being used by the HMAC "
                       "algorithm.")) ==
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

TEST_CASE("DigestsEqual sees each single bit") {
  const Sha256Digest digest = Sha256Of({"abc"});
  CHECK(DigestsEqual(digest, Sha256Of({"abc"})));
  for (std::size_t bit = 0; bit < 256; ++bit) {
    Sha256Digest other = digest;
    other[bit / 8] = static_cast<std::uint8_t>(other[bit / 8] ^ 1U << bit % 8);
    CAPTURE(bit);
    CHECK_FALSE(DigestsEqual(digest, other));
  }
}

TEST_CASE("hashing is right in several threads at once") {
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&wrong] {
      for (int i = 0; i < 2000; ++i) wrong += Hex(Sha256Of({"a", "bc"})) == kAbcHash ? 0 : 1;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

struct HashAtThreadEnd {
  std::atomic<int>* right;
  ~HashAtThreadEnd() {
    if (Hex(Sha256Of({"abc"})) == kAbcHash) ++*right;
  }
};

TEST_CASE("hashing is right while a thread ends") {
  std::atomic<int> right = 0;
  std::thread([&right] {
    thread_local HashAtThreadEnd last{
        &right};  // made first, so it goes after the hash's own context
    if (Hex(Sha256Of({"abc"})) == kAbcHash) ++*last.right;
  }).join();
  CHECK(right == 2);
}

TEST_CASE("hashing is right in a forked child, also when other threads were hashing") {
  std::atomic<bool> stop = false;
  std::thread busy([&stop] {
    while (!stop) Sha256Of({"busy"});
  });
  int right = 0;
  for (int i = 0; i < 50; ++i) {
    const pid_t child = fork();
    if (child == 0) _exit(Hex(Sha256Of({"abc"})) == kAbcHash ? 0 : 1);
    int status = -1;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) ++right;
  }
  stop = true;
  busy.join();
  CHECK(right == 50);
}

}  // namespace
}  // namespace throttl::internal

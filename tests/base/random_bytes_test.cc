#include "src/base/random_bytes.h"

#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "src/base/base62.h"

namespace {

// What the getrandom below does instead of the kernel's while a test holds one.
struct FaultyKernel {
  FaultyKernel();
  ~FaultyKernel();
  FaultyKernel(const FaultyKernel&) = delete;
  FaultyKernel& operator=(const FaultyKernel&) = delete;

  int interruptions = 0;          // EINTR so many times, then
  int error = 0;                  // this error, or else
  std::size_t bytes_at_once = 1;  // so many bytes a call at most
  int calls = 0;
};

FaultyKernel* faulty_kernel = nullptr;

FaultyKernel::FaultyKernel() { faulty_kernel = this; }
FaultyKernel::~FaultyKernel() { faulty_kernel = nullptr; }

}  // namespace

// Takes the place of the C library's in this program.
extern "C" ssize_t getrandom(void* buffer, std::size_t size, unsigned flags) {
  if (faulty_kernel != nullptr) {
    ++faulty_kernel->calls;
    if (faulty_kernel->interruptions-- > 0) {
      errno = EINTR;
      return -1;
    }
    if (faulty_kernel->error != 0) {
      errno = faulty_kernel->error;
      return -1;
    }
    size = std::min(size, faulty_kernel->bytes_at_once);
  }
  return syscall(SYS_getrandom, buffer, size, flags);
}

namespace throttl::internal {
namespace {

// Gives `next`, `next` + 1, ...: in 256 bytes, each value once.
RandomBytes Counting(std::uint8_t next) {
  return [next](std::span<std::uint8_t> bytes) mutable {
    for (std::uint8_t& byte : bytes) byte = next++;
  };
}

RandomBytes Always(std::uint8_t value) {
  return [value](std::span<std::uint8_t> bytes) { std::fill(bytes.begin(), bytes.end(), value); };
}

TEST_CASE("KernelRandom fills every byte, and never twice the same") {
  std::set<std::array<std::uint8_t, 32>> seen;
  std::array<std::set<std::uint8_t>, 32> values;
  for (int i = 0; i < 100; ++i) {
    std::array<std::uint8_t, 32> bytes = {};
    REQUIRE(KernelRandom(bytes).ok());
    seen.insert(bytes);
    for (std::size_t j = 0; j < bytes.size(); ++j) values[j].insert(bytes[j]);
  }
  CHECK(seen.size() == 100);
  for (const auto& of_position : values) CHECK(of_position.size() > 30);
  CHECK(KernelRandom({}).ok());
}

TEST_CASE("KernelRandom goes on after signals and after short reads") {
  FaultyKernel kernel;
  kernel.interruptions = 3;
  kernel.bytes_at_once = 7;
  std::vector<std::uint8_t> bytes(700);
  REQUIRE(KernelRandom(bytes).ok());
  CHECK(kernel.calls == 103);
  // Each seventh of them is from a call of its own; all zero has a probability of 2^-56.
  for (std::size_t i = 0; i < bytes.size(); i += 7) {
    const auto end = bytes.begin() + static_cast<std::ptrdiff_t>(i + 7);
    CHECK(std::any_of(end - 7, end, [](std::uint8_t byte) { return byte != 0; }));
  }
}

TEST_CASE("without the kernel's randomness there is an error that says why, and no digit") {
  FaultyKernel kernel;
  kernel.error = ENOSYS;
  std::array<std::uint8_t, 8> bytes = {};
  const absl::Status status = KernelRandom(bytes);
  CHECK(status.code() == absl::StatusCode::kInternal);
  CHECK(std::string(status.message()) == "getrandom failed: Function not implemented");
  CHECK(RandomBase62(nullptr, 10).status() == status);
  CHECK(RandomUint64(nullptr).status() == status);
  std::string text = "before";
  CHECK(AppendRandomBase62(nullptr, 10, text) == status);
  CHECK(text == "before");
}

TEST_CASE("FillRandom asks the host's function where there is one, else the kernel") {
  std::array<std::uint8_t, 4> bytes = {};
  REQUIRE(FillRandom(Counting(7), bytes).ok());
  CHECK(bytes == std::array<std::uint8_t, 4>{7, 8, 9, 10});
  FaultyKernel kernel;
  kernel.bytes_at_once = 4;
  REQUIRE(FillRandom(nullptr, bytes).ok());
  CHECK(kernel.calls == 1);
}

TEST_CASE("each of the 62 digits is equally likely: the 256 bytes give each of them 4 times") {
  const auto digits = RandomBase62(Counting(0), 248);
  REQUIRE(digits.ok());
  std::map<char, int> counts;
  for (const char digit : *digits) ++counts[digit];
  CHECK(counts.size() == 62);
  for (const auto& of_digit : counts) CHECK(of_digit.second == 4);
}

TEST_CASE("RandomBase62 gives as many digits as asked for, from the kernel too") {
  for (const std::size_t digits : {0U, 1U, 12U, 42U, 63U, 64U, 65U, 1000U}) {
    const auto text = RandomBase62(nullptr, digits);
    REQUIRE(text.ok());
    CHECK(text->size() == digits);
    CHECK(IsBase62(*text));
  }
}

TEST_CASE("a source that gives no usable byte is an error after a bounded number of bytes") {
  const auto digits = RandomBase62(Always(248), 1);
  CHECK(digits.status().code() == absl::StatusCode::kInternal);
  CHECK(std::string(digits.status().message()) ==
        "the random source gave no byte below 248 in 1024 bytes");
  CHECK(RandomBase62(Always(247), 3).value() == "zzz");
}

TEST_CASE("AppendRandomBase62 appends in place where there is the capacity") {
  std::string text = "thr_";
  text.reserve(100);
  const char* const place = text.data();
  REQUIRE(AppendRandomBase62(Counting(0), 70, text).ok());
  CHECK(text.data() == place);
  CHECK(text == "thr_" + std::string(kBase62Alphabet) + "01234567");
}

TEST_CASE("after an error in the middle the text is as it was, and the digits are wiped") {
  std::string text(200, '\0');  // so that all of the capacity is zero
  text = "before";
  int draws = 0;
  const RandomBytes random = [&draws](std::span<std::uint8_t> bytes) {
    std::fill(bytes.begin(), bytes.end(), ++draws == 1 ? 1 : 255);
  };
  CHECK_FALSE(AppendRandomBase62(random, 100, text).ok());
  CHECK(text == "before");
  CHECK(draws == 17);
  const volatile char* memory = text.data();
  for (std::size_t i = 6; i < 200; ++i) CHECK(memory[i] == 0);
}

TEST_CASE("RandomUint64 is eight bytes of the source, the first the highest") {
  CHECK(RandomUint64(Counting(1)).value() == 0x0102030405060708);
  CHECK(RandomUint64(nullptr).value() != RandomUint64(nullptr).value());
}

}  // namespace
}  // namespace throttl::internal

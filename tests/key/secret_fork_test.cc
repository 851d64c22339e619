// 10^6 secrets from 8 forked processes of 2 threads each.

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "src/base/base62.h"
#include "src/key/secret_format.h"
#include "tests/scale.h"

namespace throttl::internal {
namespace {

constexpr std::size_t kProcesses = 8;
constexpr std::size_t kThreads = 2;
constexpr std::size_t kDrawnSize = kLocatorSize + kRandomSize;

// The drawn characters of one secret.
using Drawn = std::array<char, kDrawnSize>;

// Whether every place was filled.
bool Generate(std::span<Drawn> places) {
  for (Drawn& place : places) {
    const auto secret = GenerateSecret("thr_live", nullptr);
    if (!secret.ok()) return false;
    std::memcpy(place.data(), secret->Reveal().data() + sizeof("thr_live"), place.size());
  }
  return true;
}

bool GenerateInThreads(std::span<Drawn> places) {
  const std::size_t share = places.size() / kThreads;
  std::array<bool, kThreads> good = {};
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] { good[i] = Generate(places.subspan(i * share, share)); });
  }
  for (std::thread& thread : threads) thread.join();
  return std::all_of(good.begin(), good.end(), [](bool one) { return one; });
}

// Forks the processes and waits for them; they write to `places`, which is shared.
void GenerateInProcesses(std::span<Drawn> places) {
  const std::size_t share = places.size() / kProcesses;
  std::vector<pid_t> children;
  for (std::size_t i = 0; i < kProcesses; ++i) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) _exit(GenerateInThreads(places.subspan(i * share, share)) ? 0 : 1);
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
  }
}

// How many of the texts from `begin` of `size` characters are there already.
std::size_t Duplicates(std::vector<Drawn>& all, std::size_t begin, std::size_t size) {
  const auto compare = [=](const Drawn& a, const Drawn& b) {
    return std::memcmp(a.data() + begin, b.data() + begin, size);
  };
  std::sort(all.begin(), all.end(),
            [&](const Drawn& a, const Drawn& b) { return compare(a, b) < 0; });
  std::size_t count = 0;
  for (std::size_t i = 1; i < all.size(); ++i) count += compare(all[i - 1], all[i]) == 0 ? 1U : 0U;
  return count;
}

// Pearson's chi-square of the characters at `position` against 62 equally likely ones.
double ChiSquare(const std::vector<Drawn>& all, std::size_t position) {
  std::array<double, 256> counts = {};
  for (const Drawn& drawn : all) ++counts[static_cast<unsigned char>(drawn[position])];
  const double expected = static_cast<double>(all.size()) / 62;
  double sum = 0;
  for (const char digit : kBase62Alphabet) {
    const double difference = counts[static_cast<unsigned char>(digit)] - expected;
    sum += difference * difference / expected;
  }
  return sum;
}

TEST_CASE("10^6 secrets of 8 forked processes x 2 threads: no duplicate, no position is skewed") {
  constexpr std::size_t kOfParent = 1000;
  const auto count = static_cast<std::size_t>(testing::Scaled(1'000'000)) / 16 * 16;
  const std::size_t bytes = std::max<std::size_t>(count, 16) * sizeof(Drawn);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  const std::span<Drawn> shared(static_cast<Drawn*>(memory), bytes / sizeof(Drawn));

  // The parent draws before and after, so that children who went on where it stood would be seen.
  std::vector<Drawn> all(2 * kOfParent);
  REQUIRE(Generate(std::span(all).first(kOfParent)));
  GenerateInProcesses(shared);
  REQUIRE(Generate(std::span(all).last(kOfParent)));
  all.insert(all.end(), shared.begin(), shared.end());
  REQUIRE(munmap(memory, bytes) == 0);

  for (const Drawn& drawn : all) REQUIRE(IsBase62({drawn.data(), drawn.size()}));
  CHECK(Duplicates(all, 0, kLocatorSize) == 0);
  CHECK(Duplicates(all, kLocatorSize, kRandomSize) == 0);

  // With 61 degrees of freedom a fair position is above 153 once in 10^9 runs. Drawing a digit as a
  // byte modulo 62 gives about 9,700 for 10^6 secrets.
  double worst = 0;
  for (std::size_t position = 0; position < kDrawnSize; ++position) {
    CAPTURE(position);
    const double chi_square = ChiSquare(all, position);
    CHECK(chi_square < 153);
    worst = std::max(worst, chi_square);
  }
  MESSAGE((std::to_string(all.size()) + " secrets, worst chi-square " + std::to_string(worst)));
}

}  // namespace
}  // namespace throttl::internal

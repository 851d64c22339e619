// A peer is one way to ask whether a key may make a request, measured as all others here are:
// 1,000 keys picked at random, one thread, each check waited for, and every one of them admitted.
//
// Thread safety: functions and values of one thread.
//
//   const PeerArguments arguments(argc, argv);  // ROW CALLS [MORE...]
//   RequireThreeAllowed([&] { return three.Check(PeerKeys()[0]); });
//   PrintNsPerCheck(arguments.calls, [&](std::size_t number) { return all.Check(keys[number]); });
#ifndef THROTTL_BENCHMARKS_COMPARE_PEER_H_
#define THROTTL_BENCHMARKS_COMPARE_PEER_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"

#include "throttl/plan.h"

#include "benchmarks/bench_keys.h"

namespace throttl::benchmarks {

inline constexpr std::size_t kPeerKeys = 1'000;
// Units a minute, so many that nothing is refused: the most that a rate limit of Throttl may be.
inline constexpr std::int64_t kPeerLimit = 60 * kRatePerSecondMax;
inline constexpr std::int64_t kPeerWindowSeconds = 60;

struct PeerArguments {
  // Prints what is wrong with them, and exits, unless they are ROW CALLS [MORE...].
  PeerArguments(int argc, char** argv) {
    Require(argc >= 3 && absl::SimpleAtoi(argv[2], &calls) && calls > 0, "usage: ROW CALLS ...");
    row = argv[1];
    more.assign(argv + 3, argv + argc);
  }

  std::string row;
  std::size_t calls = 0;
  std::vector<std::string> more;
};

// Numbers below kPeerKeys, the same ones in every peer: minstd_rand of seed 1, modulo kPeerKeys.
inline std::vector<std::uint16_t> PeerPicks(std::size_t count) {
  std::minstd_rand random(1);
  std::vector<std::uint16_t> picks(count);
  for (std::uint16_t& pick : picks) pick = static_cast<std::uint16_t>(random() % kPeerKeys);
  return picks;
}

// The texts by which the peers know their keys.
inline std::vector<std::string> PeerKeys() {
  std::vector<std::string> keys;
  for (std::size_t number = 0; number < kPeerKeys; ++number) {
    keys.push_back(BenchKeys::IdOf(number));
  }
  return keys;
}

// `check` asks a limit of 3 each time, and says whether it allows.
template <typename Check>
void RequireThreeAllowed(const Check& check) {
  for (int i = 0; i < 3; ++i) Require(check(), "a limit of 3 refused one of the first three");
  Require(!check(), "a limit of 3 allowed the fourth");
}

// Prints the mean of `calls` checks, after as many that are not counted, in ns.
template <typename Check>
void PrintNsPerCheck(std::size_t calls, const Check& check) {
  const std::vector<std::uint16_t> picks = PeerPicks(calls);
  const auto run = [&] {
    std::size_t allowed = 0;
    for (const std::uint16_t pick : picks) allowed += check(pick) ? 1U : 0U;
    Require(allowed == calls, "a check was refused");
  };
  run();
  const auto start = std::chrono::steady_clock::now();
  run();
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
  std::cout << took.count() / static_cast<double>(calls) << "\n";
}

}  // namespace throttl::benchmarks

#endif  // THROTTL_BENCHMARKS_COMPARE_PEER_H_

#include <signal.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "tests/engine/key_index_fixture.h"
#include "tests/scale.h"

namespace throttl::internal {
namespace {

// What readers saw, counted: doctest's checks take a lock, which would hold them apart.
struct Sightings {
  std::atomic<std::int64_t> whole = 0;
  std::atomic<std::int64_t> mixed = 0;
  std::atomic<std::int64_t> missing = 0;
};

void LookOnce(const KeyIndex& index, std::uint64_t number, Sightings& seen) {
  KeyIndex::Found found;
  KeyIds ids;
  std::optional<Entry> entry;
  do {
    if (!FindIn(index, number, found)) {
      ++seen.missing;
      return;
    }
    // The facts are of one moment, whatever CopyIds says then.
    entry = EntryOf(found.facts);
    if (!entry || entry->number != number) {
      ++seen.mixed;
      return;
    }
  } while (!index.CopyIds(found, ids.key_id, ids.owner_id, ids.plan_id));
  const KeyIds expected = KeyOf(*entry).ids;
  const bool whole = ids.key_id == expected.key_id && ids.owner_id == expected.owner_id &&
                     ids.plan_id == expected.plan_id;
  ++(whole ? seen.whole : seen.mixed);
}

// Runs `write(step)` some times here while two threads look numbers up that `choose(random)` gives.
template <typename Write, typename Choose>
void RunBeside(const KeyIndex& index, std::int64_t steps, Sightings& seen, Write write,
               Choose choose) {
  std::atomic<bool> done = false;
  std::vector<std::thread> readers;
  for (unsigned reader = 0; reader < 2; ++reader) {
    readers.emplace_back([&, reader] {
      std::mt19937_64 random(reader);
      while (!done.load()) LookOnce(index, choose(random), seen);
    });
  }
  // Readers must have begun, or a short run would show nothing.
  std::int64_t step = 0;
  while (step < steps || seen.whole.load() < 1000) write(step++);
  done = true;
  for (std::thread& reader : readers) reader.join();
}

TEST_CASE("readers see entries whole while they are replaced, removed and evicted") {
  constexpr std::uint64_t kNumbers = 64;
  const auto index = IndexOf(40);
  Sightings seen;
  std::mt19937_64 random(3);
  RunBeside(
      *index, testing::Scaled(400'000), seen,
      [&](std::int64_t step) {
        const std::uint64_t number = random() % kNumbers;
        if (random() % 8 == 0) index->InvalidateKey(KeyIdOf(number));
        if (random() % 1000 == 0) index->InvalidateAll();
        InsertInto(*index, {number, static_cast<std::uint64_t>(step) % 1'000'000});
      },
      [](std::mt19937_64& choice) { return choice() % kNumbers; });
  CHECK(seen.mixed == 0);
}

TEST_CASE("readers see one entry whole while it is replaced all the time") {
  const auto index = IndexOf(1);
  REQUIRE(InsertInto(*index, {.number = 2}));
  Sightings seen;
  RunBeside(
      *index, testing::Scaled(100'000), seen,
      [&](std::int64_t step) {
        InsertInto(*index, {2, static_cast<std::uint64_t>(step) % 1'000'000});
      },
      [](std::mt19937_64&) { return 2; });
  CHECK(seen.mixed == 0);
  CHECK(seen.missing == 0);
}

// The index is small against what passes through, so its places are erased, cleared and outgrown.
TEST_CASE("a key that is there is found while others come and go and the index grows") {
  constexpr std::uint64_t kStay = 2000;
  constexpr std::uint64_t kPass = 1'000'000;
  const auto index = IndexOf(10'000);
  for (std::uint64_t number = 0; number < kStay; ++number) {
    REQUIRE(InsertInto(*index, {.number = number}));
  }
  Sightings seen;
  RunBeside(
      *index, testing::Scaled(600'000), seen,
      [&](std::int64_t step) {
        const std::uint64_t number = kStay + static_cast<std::uint64_t>(step) % kPass;
        InsertInto(*index, {.number = number});
        // At most 7,900 others at a time: nothing is evicted.
        if (number >= kStay + 7900) index->InvalidateKey(KeyIdOf(number - 7900));
      },
      [](std::mt19937_64& choice) { return choice() % kStay; });
  CHECK(seen.mixed == 0);
  CHECK(seen.missing == 0);
}

// What the reader that a signal puts aside waits for.
std::atomic<std::int64_t> rounds = 0;
std::atomic<std::uint32_t> put_aside = 0;

void PutAside(int) {
  const std::uint32_t times = put_aside.fetch_add(1);
  // Its table is cleared in every other round.
  for (const std::int64_t end = rounds.load() + 1 + times % 2; rounds.load() < end;) continue;
  // Then it wakes at another moment of a round each time.
  for (std::uint32_t spin = times * 2'654'435'761U >> 21; spin > 0; --spin) put_aside.load();
}

// All keys belong into the first of 16 lines, so that the search for the last is long. Every
// round erases enough of the others for another table: the one in use before the last is cleared.
TEST_CASE("a reader who was put aside finds a key whatever became of the table it was in") {
  const auto index = IndexOf(40);
  std::vector<std::uint64_t> numbers;
  for (std::uint64_t number = 0; numbers.size() < 40; number += 2) {
    if (TargetOf(*index, LocatorOf(number)).tag % 16 == 0) numbers.push_back(number);
  }
  for (const std::uint64_t number : numbers) REQUIRE(InsertInto(*index, {.number = number}));
  std::vector<std::pair<LocatorKey, CachedKey>> others;
  for (std::size_t i = 0; i < 20; ++i) {
    others.emplace_back(LocatorOf(numbers[i]), KeyOf({.number = numbers[i]}));
  }
  struct sigaction action = {};
  struct sigaction before = {};
  action.sa_handler = PutAside;
  REQUIRE(sigaction(SIGUSR1, &action, &before) == 0);
  std::atomic<bool> done = false;
  std::int64_t missing = 0;
  std::thread reader([&] {
    const KeyIndex::Target target = TargetOf(*index, LocatorOf(numbers.back()));
    KeyIndex::Found found;
    while (!done.load()) missing += index->Find(target, found) ? 0 : 1;
  });
  // The last rounds put nobody aside, so that the reader comes to its end.
  const std::int64_t rounds_last = rounds.load() + testing::Scaled(100'000);
  for (; rounds.load() < rounds_last + 100; ++rounds) {
    if (rounds.load() % 4 == 0 && rounds.load() < rounds_last) {
      pthread_kill(reader.native_handle(), SIGUSR1);
    }
    for (const auto& [locator, key] : others) index->InvalidateKey(key.ids.key_id.view());
    for (const auto& [locator, key] : others) index->Insert(locator, key, index->invalidations());
  }
  done = true;
  // A signal may come as late as this.
  std::atomic<bool> joined = false;
  std::thread clock([&] {
    while (!joined.load()) ++rounds;
  });
  reader.join();
  joined = true;
  clock.join();
  CHECK(sigaction(SIGUSR1, &before, nullptr) == 0);
  CHECK(missing == 0);
}

TEST_CASE("writers in several threads take turns") {
  const auto index = IndexOf(100'000);
  std::vector<std::thread> writers;
  for (std::uint64_t writer = 0; writer < 4; ++writer) {
    writers.emplace_back([&index, writer] {
      for (std::uint64_t i = 0; i < 5000; ++i) InsertInto(*index, {.number = 4 * i + writer});
    });
  }
  for (std::thread& writer : writers) writer.join();
  CHECK(index->size() == 20'000);
  KeyIndex::Found found;
  for (std::uint64_t number = 0; number < 20'000; ++number) REQUIRE(FindIn(*index, number, found));
}

}  // namespace
}  // namespace throttl::internal

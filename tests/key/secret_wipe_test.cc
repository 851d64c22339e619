// What a Secret leaves in memory: nothing in its own, nothing in what it gives back, nothing on the
// stack of who made it.

#include <malloc.h>
#include <pthread.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "throttl/secret.h"

#include "src/key/secret_digest.h"
#include "src/key/secret_format.h"

namespace {

// So many bytes of a text, one after the other, count as a trace of it.
constexpr std::size_t kTraceSize = 6;

bool Shows(const void* memory, std::size_t size, std::string_view text) {
  for (std::size_t i = 0; i + kTraceSize <= text.size(); ++i) {
    if (memmem(memory, size, text.data() + i, kTraceSize) != nullptr) return true;
  }
  return false;
}

// What is looked for in each block that is given back; nothing while it is empty.
std::string_view watched;
std::atomic<int> blocks_with_watched = 0;

}  // namespace

// The program's own allocation, so that each block can be searched before it is gone.
void* operator new(std::size_t size) {
  void* block = std::malloc(std::max<std::size_t>(size, 1));
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

void operator delete(void* block) noexcept {
  if (block != nullptr && !watched.empty() && Shows(block, malloc_usable_size(block), watched)) {
    ++blocks_with_watched;
  }
  std::free(block);
}

void operator delete(void* block, std::size_t) noexcept { operator delete(block); }

namespace throttl {
namespace {

// 1,000 characters among which no six come twice.
std::string_view LongText() {
  static const auto* text = [] {
    auto* made = new std::string;
    for (int i = 0; made->size() < 1000; ++i)
      *made += std::to_string(i) + "~" + std::to_string(i * i);
    made->resize(1000);
    return made;
  }();
  return *text;
}

std::string_view OtherText() { return LongText().substr(500); }

// Texts inside of the string object, just outside of it, as long as a secret, and longer.
constexpr std::size_t kSizes[] = {6, 8, 15, 16, 57, 500};

// Counts the blocks given back meanwhile that show the text.
class Watch {
 public:
  explicit Watch(std::string_view text) {
    blocks_with_watched = 0;
    watched = text;
  }
  ~Watch() { watched = {}; }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  int found() const { return blocks_with_watched; }
};

// Memory for one Secret that can be looked at when the Secret is gone.
struct Place {
  template <typename... Arguments>
  Secret* Make(Arguments&&... arguments) {
    return new (memory) Secret(std::forward<Arguments>(arguments)...);
  }
  bool Shows(std::string_view text) const { return ::Shows(memory, sizeof(memory), text); }

  alignas(Secret) unsigned char memory[sizeof(Secret)] = {};
};

TEST_CASE("the watch itself: a plain text is found in what it gives back") {
  const std::string_view text = LongText().substr(0, 57);
  const Watch watch(text);
  std::string(text).clear();
  CHECK(watch.found() == 1);
}

TEST_CASE("a destroyed Secret leaves nothing, copies are wiped each by itself") {
  for (const std::size_t size : kSizes) {
    CAPTURE(size);
    const std::string_view text = LongText().substr(0, size);
    static Place first;
    static Place second;
    const Watch watch(text);
    Secret* original = first.Make(std::string(text));
    Secret* copy = second.Make(*original);
    CHECK(first.Shows(text) == (size <= 15));
    original->~Secret();
    CHECK_FALSE(first.Shows(text));
    const bool copy_lives = copy->Reveal() == text;
    CHECK(copy_lives);
    copy->~Secret();
    CHECK_FALSE(second.Shows(text));
    CHECK(watch.found() == 0);
  }
}

TEST_CASE("a Secret that was moved from holds nothing, also of a text inside of the object") {
  for (const std::size_t size : kSizes) {
    CAPTURE(size);
    const std::string_view text = LongText().substr(0, size);
    static Place first;
    static Place second;
    const Watch watch(text);
    Secret* from = first.Make(std::string(text));
    Secret* to = second.Make(std::move(*from));
    CHECK_FALSE(first.Shows(text));
    CHECK(from->empty());
    *from = std::move(*to);
    CHECK_FALSE(second.Shows(text));
    CHECK(to->empty());
    const bool arrived = from->Reveal() == text;
    CHECK(arrived);
    from->~Secret();
    to->~Secret();
    CHECK_FALSE(first.Shows(text));
    CHECK(watch.found() == 0);
  }
}

TEST_CASE("a Secret that is assigned to leaves nothing of its old text, longer or shorter") {
  for (const std::size_t old_size : kSizes) {
    for (const std::size_t new_size : kSizes) {
      CAPTURE(old_size);
      CAPTURE(new_size);
      const std::string_view old_text = LongText().substr(0, old_size);
      const std::string_view new_text = OtherText().substr(0, new_size);
      static Place by_copy;
      static Place by_move;
      const Watch watch(old_text);
      Secret* copied = by_copy.Make(std::string(old_text));
      Secret* moved = by_move.Make(std::string(old_text));
      const Secret source{std::string(new_text)};
      *copied = source;
      *moved = Secret(source);
      const bool right = copied->Reveal() == new_text && moved->Reveal() == new_text;
      CHECK(right);
      CHECK_FALSE(by_copy.Shows(old_text));
      CHECK_FALSE(by_move.Shows(old_text));
      CHECK_FALSE(Shows(copied->Reveal().data(), copied->Reveal().size(), old_text));
      copied->~Secret();
      moved->~Secret();
      CHECK(watch.found() == 0);
    }
  }
}

TEST_CASE("a Secret that is assigned to itself keeps its text") {
  for (const std::size_t size : kSizes) {
    const std::string_view text = LongText().substr(0, size);
    Secret secret{std::string(text)};
    Secret& same = secret;
    secret = same;
    CHECK((secret.Reveal() == text));
    secret = std::move(same);
    CHECK((secret.Reveal() == text));
  }
}

TEST_CASE("a vector of Secrets that grows and shrinks leaves nothing") {
  const std::string_view text = LongText().substr(0, 15);
  const Watch watch(text);
  std::vector<Secret> secrets;
  for (int i = 0; i < 100; ++i) secrets.emplace_back(std::string(text));
  secrets.erase(secrets.begin(), secrets.begin() + 50);
  secrets.clear();
  secrets.shrink_to_fit();
  CHECK(watch.found() == 0);
}

TEST_CASE("a PepperSet leaves nothing of its peppers, in or out of order, accepted or refused") {
  const std::string_view text = LongText().substr(0, 40);
  const Watch watch(text);
  {
    std::vector<Pepper> peppers;
    for (const std::int32_t version : {9, 2, 5, 1, 7}) {
      peppers.push_back({.version = version, .value = Secret{std::string(text)}});
    }
    const auto set = internal::PepperSet::Create(peppers);
    REQUIRE(set.ok());
    REQUIRE(set->Digest(Sha256("text"), 5).ok());
    peppers.push_back(peppers.front());
    REQUIRE_FALSE(internal::PepperSet::Create(peppers).ok());
  }
  CHECK(watch.found() == 0);
}

// Bytes that become 64 different digits or are passed over; the same at each draw.
void KnownRandom(std::span<std::uint8_t> bytes) {
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i * 37 + 11);
}

// The random part of the one secret that KnownRandom gives, and the bytes that it came from.
struct Known {
  Known() {
    const auto secret = internal::GenerateSecret("thr_live", KnownRandom);
    digits =
        secret->Reveal().substr(sizeof("thr_live") + internal::kLocatorSize, internal::kRandomSize);
    KnownRandom(bytes);
  }
  std::string_view Bytes() const { return {reinterpret_cast<const char*>(bytes), sizeof(bytes)}; }

  std::string digits;
  std::uint8_t bytes[64];
};

// One that lies within its object, so on the stack.
std::string_view ShortText() { return LongText().substr(100, 15); }

// Deep enough in the stack that what follows does not write over it.
[[gnu::noinline]] bool UseShortSecret() {
  volatile char room[8192];
  room[0] = 1;
  const Secret secret{std::string(ShortText())};
  return !secret.empty() && room[0] == 1;
}

// All that is done with a secret in clear.
void* UseSecret(void*) {
  const auto secret = internal::GenerateSecret("thr_live", KnownRandom);
  const auto parts = internal::ParseSecret(secret->Reveal());
  const auto peppers = internal::PepperSet::Create({});
  const auto digest = peppers->Digest(Sha256(secret->Reveal()), 0);
  const std::string masked = MaskSecret(secret->Reveal());
  return parts && digest.ok() && !masked.empty() && UseShortSecret() ? &watched : nullptr;
}

// The thread has a stack of ours, which can be looked at when the thread is gone.
TEST_CASE("nothing of a secret stays on the stack or in given back memory after the calls") {
  static const Known known;
  alignas(4096) static unsigned char stack[1 << 20];
  std::fill(std::begin(stack), std::end(stack), static_cast<unsigned char>(0xaa));
  pthread_attr_t attributes;
  REQUIRE(pthread_attr_init(&attributes) == 0);
  REQUIRE(pthread_attr_setstack(&attributes, stack, sizeof(stack)) == 0);
  int found = 0;
  {
    const Watch watch(known.digits);
    pthread_t thread;
    REQUIRE(pthread_create(&thread, &attributes, &UseSecret, nullptr) == 0);
    void* result = nullptr;
    REQUIRE(pthread_join(thread, &result) == 0);
    CHECK(result != nullptr);
    found = watch.found();
  }
  pthread_attr_destroy(&attributes);
  CHECK(found == 0);
  CHECK(std::any_of(std::begin(stack), std::end(stack), [](unsigned char c) { return c != 0xaa; }));
  CHECK_FALSE(Shows(stack, sizeof(stack), ShortText()));
  CHECK_FALSE(Shows(stack, sizeof(stack), known.digits));
  CHECK_FALSE(Shows(stack, sizeof(stack), known.Bytes()));
}

}  // namespace
}  // namespace throttl

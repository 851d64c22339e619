// The parts of the damage test: a store with every kind of record, and ways to damage its files.
//
// Thread safety: pure functions but for the file system.
//
//   const DamageStore store = MakeDamageStore(directory);
//   std::string bytes = store.file;
//   Damage(DamageKind::kFlipBits, random, bytes);
#ifndef THROTTL_TESTS_FAULTS_DAMAGE_PARTS_H_
#define THROTTL_TESTS_FAULTS_DAMAGE_PARTS_H_

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "throttl/quota_store.h"

namespace throttl::testing {

enum class DamageKind : std::uint8_t {
  kFlipBits = 0,       // 1 to 64 of them
  kZeroSector = 1,     // 512 bytes
  kTruncate = 2,       // at a random length
  kSwapPages = 3,      // two of 4,096 bytes
  kDuplicatePage = 4,  // one in the place of another
};
inline constexpr std::size_t kDamageKinds = 5;
const char* DamageName(DamageKind kind);

void Damage(DamageKind kind, std::mt19937_64& random, std::string& bytes);

// Commits from `first` up to `end`, not included.
struct CommitRange {
  std::int64_t first = 0;
  std::int64_t end = INT64_MAX;
};

// A store of 50 keys, some revoked, disabled, expired or rotated, with plans, events and counters.
struct DamageStore {
  std::string file = {};           // the database without a log: `file_commits` commits
  std::string file_with_log = {};  // the same commits, and
  std::string log = {};            // those that came after, up to `commits`
  std::int64_t file_commits = 0;
  std::int64_t commits = 0;
  std::map<std::string, CommitRange> when;  // a key's or plan's text -> the commits that had it
  std::vector<std::string> key_ids = {};
  std::map<std::string, std::string> key_of_locator = {};
  std::vector<std::string> unknown_locators = {};
  std::string settle_reply = {};  // of DamageSettle
};

DamageStore MakeDamageStore(const std::string& directory);

// Text of what must never be wrong: all of the record but when it was used.
std::string SettingsText(KeyRecord record);
std::string SettingsText(const Plan& plan);

// A settle of the counter that the store has.
SettleBatch DamageSettle();
KeyRecord DamageKey(std::int64_t number);

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_FAULTS_DAMAGE_PARTS_H_

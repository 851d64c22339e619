// The store contract: every promise of throttl/quota_store.h as a check that quotes it, for any
// backend, yours included.
//
// Thread safety: call it from a doctest TEST_CASE, on a thread of its own.
//
//   TEST_CASE("my store keeps the store contract") {
//     throttl::testing::StoreContract(
//         {.name = "mine", .open_new = [] { return std::make_shared<MyStore>(); }});
//   }
#ifndef THROTTL_TESTS_STORE_STORE_CONTRACT_H_
#define THROTTL_TESTS_STORE_STORE_CONTRACT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "throttl/quota_store.h"

namespace throttl::testing {

struct StoreUnderTest {
  std::string name = {};
  // A new, empty store. The one before is gone.
  std::function<std::shared_ptr<QuotaStore>()> open_new = nullptr;
  // Another handle on the newest store's data, also from a forked child. nullptr: the data is of
  // one handle, and what needs two is skipped.
  std::function<std::shared_ptr<QuotaStore>()> reopen = nullptr;
  // Where Backup writes, and how such a copy is opened. nullptr: Backup is skipped.
  std::function<std::string()> backup_destination = nullptr;
  std::function<std::shared_ptr<QuotaStore>(const std::string& destination)> open_copy = nullptr;
  std::int64_t histories_max = 3000;  // random histories of settling; fewer on a slow store
};

struct StorePromise {
  const char* quote;  // from throttl/quota_store.h
  void (*check)(const StoreUnderTest& store);
};

// All promises, in the order of the header.
std::span<const StorePromise> StorePromises();

// Checks every promise on a store of its own. A failure names the promise; what a store does not
// have (it answers Unimplemented) is told as skipped.
void StoreContract(const StoreUnderTest& store);

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_STORE_STORE_CONTRACT_H_

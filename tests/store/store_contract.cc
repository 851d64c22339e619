#include "tests/store/store_contract.h"

#include <exception>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "tests/store/store_contract_parts.h"

namespace throttl::testing {

std::span<const StorePromise> StorePromises() {
  static const std::vector<StorePromise> all = [] {
    std::vector<StorePromise> promises;
    for (const auto part : {RecordPromises(), ChangePromises(), CountingPromises(),
                            DeliveryPromises(), CallerPromises()}) {
      promises.insert(promises.end(), part.begin(), part.end());
    }
    return promises;
  }();
  return all;
}

void StoreContract(const StoreUnderTest& store) {
  for (const StorePromise& promise : StorePromises()) {
    INFO("the promise: ", std::string(promise.quote));
    try {
      promise.check(store);
    } catch (const std::exception& error) {
      FAIL_CHECK(absl::StrCat("\"No exception\": ", error.what()));
    } catch (...) {
      // A REQUIRE that failed, and is reported. The promises after it are checked all the same.
    }
  }
}

}  // namespace throttl::testing

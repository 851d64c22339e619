#include "tests/store/store_contract.h"

#include <vector>

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
    SUBCASE(promise.quote) { promise.check(store); }
  }
}

}  // namespace throttl::testing

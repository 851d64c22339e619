// The store contract on a store that a user wrote: examples/my_store.h.
#include <memory>

#include <doctest/doctest.h>

#include "examples/my_store.h"
#include "tests/store/store_contract.h"

namespace throttl::testing {
namespace {

TEST_CASE("a user's own store in maps keeps the store contract") {
  StoreContract({.name = "examples/my_store.h",
                 .open_new = [] { return std::make_shared<acme::MapStore>(); }});
}

}  // namespace
}  // namespace throttl::testing

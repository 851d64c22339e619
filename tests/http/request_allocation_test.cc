// What reads a request allocates nothing: a program of its own, since it counts every allocation.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <string>
#include <string_view>

#include <doctest/doctest.h>

#include "throttl/client_address.h"
#include "throttl/http.h"

namespace {

std::atomic<std::int64_t> allocations = 0;

}  // namespace

void* operator new(std::size_t size) {
  ++allocations;
  void* block = std::malloc(std::max<std::size_t>(size, 1));
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

void operator delete(void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }

namespace throttl {
namespace {

template <typename Call>
std::int64_t AllocationsOf(const Call& call) {
  const std::int64_t before = allocations;
  call();
  return allocations - before;
}

TEST_CASE("allocations are counted") {
  CHECK(AllocationsOf([] { CHECK(!std::string(100, 'x').empty()); }) > 0);
}

TEST_CASE("SecretFromHeaders allocates nothing") {
  const std::string secret(1'000, 'x');
  const std::string authorization = "Bearer " + secret;
  const std::string query = "a=b&api_key=" + secret;
  std::size_t size = 0;
  const std::int64_t count = AllocationsOf([&] {
    size += SecretFromHeaders({.authorization = authorization}).size();
    size += SecretFromHeaders({.authorization = authorization, .x_api_key = "y"}).size();
    size += SecretFromHeaders({.query = query, .query_parameter = "api_key"}).size();
  });
  CHECK(count == 0);
  CHECK(size > 2'000);
}

TEST_CASE("ClientAddress allocates nothing") {
  const absl::StatusOr<TrustedProxies> proxies =
      TrustedProxies::Create({"10.0.0.0/8", "2001:db8::/32"});
  REQUIRE(proxies.ok());
  std::string header = "2001:4860:4860:1234:5678:9abc:def0:7";
  for (int i = 0; i < 20; ++i) header += ", [2001:db8:1234:5678:9abc:def0:1234:5678]:50123";
  std::string_view client;
  CHECK(AllocationsOf([&] { client = proxies->ClientAddress("10.0.0.1:443", header); }) == 0);
  CHECK(client == "2001:4860:4860:1234:5678:9abc:def0:7");
}

}  // namespace
}  // namespace throttl

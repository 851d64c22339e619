#include "src/open/store_url.h"

#include <string>

#include "absl/strings/match.h"
#include <doctest/doctest.h>

namespace throttl::internal {
namespace {

SqliteStoreOptions Sqlite(std::string_view url) {
  const auto parsed = ParseStoreUrl(url);
  REQUIRE_MESSAGE(parsed.ok(), parsed.status().ToString());
  REQUIRE(std::holds_alternative<SqliteStoreOptions>(*parsed));
  return std::get<SqliteStoreOptions>(*parsed);
}

std::string Refusal(std::string_view url) {
  const auto parsed = ParseStoreUrl(url);
  CHECK(absl::IsInvalidArgument(parsed.status()));
  return std::string(parsed.status().message());
}

TEST_CASE("a path and sqlite:PATH are the same store, with its options as parameters") {
  CHECK(Sqlite("throttl.db").path == "throttl.db");
  CHECK(Sqlite("/var/lib/throttl.db").path == "/var/lib/throttl.db");
  CHECK(Sqlite("sqlite:throttl.db").path == "throttl.db");
  CHECK(Sqlite("./a:b.db").path == "./a:b.db");
  CHECK(Sqlite("sqlite:a:b.db").path == "a:b.db");
  CHECK(Sqlite("throttl.db").durability == Durability::kProcess);
  const SqliteStoreOptions all =
      Sqlite("sqlite:t.db?durability=power&create=false&busy_timeout=250ms&wal_bytes_max=2097152");
  CHECK(all.path == "t.db");
  CHECK(all.durability == Durability::kPower);
  CHECK_FALSE(all.create);
  CHECK(all.busy_timeout == absl::Milliseconds(250));
  CHECK(all.wal_bytes_max == 2097152);
  CHECK(Sqlite("t.db?durability=power").durability == Durability::kPower);
}

TEST_CASE("memory: takes its own parameters and no name") {
  const auto parsed = ParseStoreUrl("memory:?keys_max=5&events_max=6&usage_rows_max=7");
  REQUIRE(parsed.ok());
  const auto options = std::get<MemoryStoreOptions>(*parsed);
  CHECK(options.keys_max == 5);
  CHECK(options.events_max == 6);
  CHECK(options.usage_rows_max == 7);
  CHECK(absl::StrContains(Refusal("memory:x"), "\"x\""));
}

TEST_CASE("what is not known is refused by name") {
  CHECK(absl::StrContains(Refusal("redis://localhost"), "\"redis\""));
  CHECK(absl::StrContains(Refusal("t.db?durabilty=power"), "\"durabilty\""));
  CHECK(absl::StrContains(Refusal("t.db?durability=full"), "\"full\""));
  CHECK(absl::StrContains(Refusal("t.db?create=yes"), "\"yes\""));
  CHECK(absl::StrContains(Refusal("t.db?busy_timeout=5"), "\"5\""));
  CHECK(absl::StrContains(Refusal("t.db?wal_bytes_max=-1"), "\"-1\""));
  CHECK(absl::StrContains(Refusal("t.db?create"), "\"create\""));
  CHECK(absl::StrContains(Refusal("t.db?create=true&create=false"), "twice"));
  CHECK(absl::StrContains(Refusal("memory:?keys_max=0"), "\"0\""));
  CHECK(absl::StrContains(Refusal("memory:?durability=power"), "\"durability\""));
}

}  // namespace
}  // namespace throttl::internal

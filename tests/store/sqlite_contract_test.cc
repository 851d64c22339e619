// The store contract on the SQLite store, in a directory of its own.
#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "throttl/sqlite_store.h"

#include "tests/store/store_contract.h"

namespace throttl::testing {
namespace {

// Goes, with everything in it, when the test ends.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    path_ = (std::filesystem::temp_directory_path() / "throttl-contract-XXXXXX").string();
    REQUIRE(mkdtemp(path_.data()) != nullptr);
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  std::string File(const std::string& name, int number) const {
    return absl::StrCat(path_, "/", name, number, ".db");
  }

 private:
  std::string path_;
};

std::shared_ptr<QuotaStore> OpenFile(const std::string& path, bool create, Durability durability) {
  auto store = OpenSqliteStore({.path = path, .durability = durability, .create = create});
  REQUIRE_MESSAGE(store.ok(), store.status().ToString());
  return *std::move(store);
}

void RunContract(Durability durability, const std::string& name) {
  const TemporaryDirectory directory;
  int stores = 0;
  int copies = 0;
  StoreContract(
      {.name = name,
       .open_new = [&] { return OpenFile(directory.File("store", ++stores), true, durability); },
       .reopen = [&] { return OpenFile(directory.File("store", stores), false, durability); },
       .backup_destination = [&] { return directory.File("copy", ++copies); },
       .open_copy =
           [&](const std::string& destination) { return OpenFile(destination, false, durability); },
       .histories_max = durability == Durability::kProcess ? 200 : 20});
}

TEST_CASE("the SQLite store keeps the store contract") {
  RunContract(Durability::kProcess, "sqlite");
}

TEST_CASE("the SQLite store with durability=power keeps the store contract") {
  RunContract(Durability::kPower, "sqlite?durability=power");
}

}  // namespace
}  // namespace throttl::testing

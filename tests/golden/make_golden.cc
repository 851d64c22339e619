// Makes a golden database and its description: make_golden DIRECTORY NAME.

#define DOCTEST_CONFIG_IMPLEMENT
#include <cstdio>
#include <string>

#include "throttl/sqlite_store.h"

#include "src/store/sqlite/sqlite_migrations.h"
#include "tests/faults/fault_parts.h"
#include "tests/golden/golden_content.h"
#include "tests/store/store_contract_parts.h"

namespace throttl::testing {
namespace {

void MakeGolden(const std::string& file) {
  WriteGolden(file + ".db");
  WriteBytes(file + ".txt", DescribeGolden(*Must(OpenSqliteStore({.path = file + ".db"})),
                                           static_cast<int>(internal::SqliteMigrations().size())));
  // One file, without a log: closing the last handle takes the log away.
  PlainSqlite(file + ".db").Run("PRAGMA wal_checkpoint(TRUNCATE)");
  for (const char* ending : {".db-gate", ".db-lease", ".db-lease-lock"}) {
    unlink((file + ending).c_str());
  }
}

}  // namespace
}  // namespace throttl::testing

int main(int count, char** arguments) {
  if (count != 3) {
    std::fprintf(stderr, "usage: make_golden DIRECTORY NAME\n");
    return 2;
  }
  doctest::Context context;
  context.setAsDefaultForAssertsOutOfTestCases();
  throttl::testing::MakeGolden(std::string(arguments[1]) + "/" + arguments[2]);
  return 0;
}

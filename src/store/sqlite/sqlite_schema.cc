#include "src/store/sqlite/sqlite_schema.h"

#include <array>
#include <cstdint>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "src/base/random_bytes.h"
#include "src/base/status_macros.h"
#include "src/store/sqlite/sqlite_migrations.h"

namespace throttl::internal {
namespace {

absl::StatusOr<std::string> RandomStoreId() {
  std::array<std::uint8_t, 16> bytes = {};
  THROTTL_RETURN_IF_ERROR(KernelRandom(bytes));
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

absl::Status WriteMeta(SqliteConnection& db) {
  THROTTL_ASSIGN_OR_RETURN(const std::string store_id, RandomStoreId());
  SqliteStatement write(db, "INSERT INTO meta VALUES('store_id', ?), ('planned_seq', '0')");
  return write.Bind(store_id).Finish();
}

absl::Status CheckVersion(SqliteConnection& db, std::int64_t version) {
  THROTTL_RETURN_IF_ERROR(CheckSchemaVersion(version));
  if (version != 0) return absl::OkStatus();
  THROTTL_ASSIGN_OR_RETURN(const std::int64_t tables,
                           db.ReadNumber("SELECT count(*) FROM sqlite_schema"));
  if (tables == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the file holds ", tables, " tables, indexes and views of another program"));
}

absl::Status RunMigrations(SqliteConnection& db, std::int64_t version) {
  for (std::size_t i = static_cast<std::size_t>(version); i < SqliteMigrations().size(); ++i) {
    THROTTL_RETURN_IF_ERROR(db.RunScript(SqliteMigrations()[i]));
  }
  if (version == 0) THROTTL_RETURN_IF_ERROR(WriteMeta(db));
  return db.RunScript("COMMIT");
}

}  // namespace

absl::Status CheckSchemaVersion(std::int64_t version) {
  const auto newest = static_cast<std::int64_t>(SqliteMigrations().size());
  if (version >= 0 && version <= newest) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("the database's schema has version ", version,
                                                    ", and this library knows versions up to ",
                                                    newest, "; use a newer one"));
}

absl::Status MigrateSchema(SqliteConnection& db) {
  THROTTL_RETURN_IF_ERROR(db.RunScript("BEGIN IMMEDIATE"));
  absl::StatusOr<std::int64_t> version =
      db.ReadNumber("SELECT user_version FROM pragma_user_version");
  absl::Status status = version.ok() ? CheckVersion(db, *version) : version.status();
  const auto newest = static_cast<std::int64_t>(SqliteMigrations().size());
  if (status.ok() && *version < newest) status = RunMigrations(db, *version);
  db.Rollback();  // nothing is open after a COMMIT
  return status;
}

absl::Status RenewStoreId(SqliteConnection& db) {
  THROTTL_ASSIGN_OR_RETURN(const std::string store_id, RandomStoreId());
  SqliteStatement write(db, "UPDATE meta SET value = ? WHERE name = 'store_id'");
  return write.Bind(store_id).Finish();
}

}  // namespace throttl::internal

# Writes OUT, a C++ file that defines throttl::internal::SqliteMigrations() from the SQL files IN,
# in the order of their names.
list(SORT IN)
set(text "#include \"src/store/sqlite/sqlite_migrations.h\"\n\nnamespace throttl::internal {\n\n")
string(APPEND text "std::span<const char* const> SqliteMigrations() {\n")
string(APPEND text "  static const char* const kMigrations[] = {\n")
foreach(file IN LISTS IN)
  file(READ ${file} sql)
  string(APPEND text "      R\"~sql~(${sql})~sql~\",\n")
endforeach()
string(APPEND text "  };\n  return kMigrations;\n}\n\n}  // namespace throttl::internal\n")
file(WRITE ${OUT} "${text}")

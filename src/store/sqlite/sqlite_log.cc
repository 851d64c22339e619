#include "src/store/sqlite/sqlite_log.h"

#include "src/base/status_macros.h"

namespace throttl::internal {

absl::Status SqliteAppendEvents(SqliteConnection& db, std::span<const Event> events) {
  for (const Event& event : events) {
    SqliteStatement write(db,
                          "INSERT INTO event(id, type, at, owner_id, key_id, actor, data) "
                          "VALUES(?, ?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO NOTHING");
    write.Bind(event.id)
        .Bind(event.type)
        .Bind(absl::ToUnixMillis(event.at))
        .Bind(event.owner_id)
        .Bind(event.key_id)
        .Bind(event.actor)
        .Bind(event.data);
    THROTTL_RETURN_IF_ERROR(write.Finish());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Event>> SqliteReadEvents(SqliteConnection& db, std::int64_t after_seq,
                                                    std::int32_t count_max) {
  SqliteStatement read(db,
                       "SELECT seq, id, type, at, owner_id, key_id, actor, data FROM event "
                       "WHERE seq > ? ORDER BY seq LIMIT ?");
  read.Bind(after_seq).Bind(count_max);
  std::vector<Event> events;
  while (read.Step()) {
    events.push_back({.seq = read.Int(0),
                      .id = read.Text(1),
                      .type = read.Text(2),
                      .at = absl::FromUnixMillis(read.Int(3)),
                      .owner_id = read.Text(4),
                      .key_id = read.Text(5),
                      .actor = read.Text(6),
                      .data = read.Text(7)});
  }
  THROTTL_RETURN_IF_ERROR(read.status());
  return events;
}

absl::StatusOr<std::int64_t> SqliteLastSeq(SqliteConnection& db) {
  return db.ReadNumber(
      "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'event'), 0)");
}

absl::StatusOr<bool> SqliteWasApplied(SqliteConnection& db, std::string_view change_id) {
  SqliteStatement read(db, "SELECT 1 FROM change WHERE id = ?");
  const bool found = read.Bind(change_id).Step();
  THROTTL_RETURN_IF_ERROR(read.status());
  return found;
}

absl::Status SqliteRememberChange(SqliteConnection& db, std::string_view change_id) {
  {
    SqliteStatement write(db, "INSERT INTO change(id) VALUES(?)");
    THROTTL_RETURN_IF_ERROR(write.Bind(change_id).Finish());
  }
  SqliteStatement forget(db, "DELETE FROM change WHERE seq <= last_insert_rowid() - ?");
  return forget.Bind(kRememberedChanges).Finish();
}

}  // namespace throttl::internal

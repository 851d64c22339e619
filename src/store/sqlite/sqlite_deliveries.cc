#include <bit>
#include <charconv>
#include <limits>

#include "absl/strings/str_cat.h"

#include "src/base/status_macros.h"
#include "src/store/sqlite/sqlite_outbox.h"

namespace throttl::internal {
namespace {

// The columns that ReadDelivery reads, in its order.
#define THROTTL_DELIVERY_COLUMNS                                                           \
  "seq, id, destination, state, attempts, due_at, claim, last_http_status, last_error, "   \
  "event_seq, event_id, event_type, event_at, event_owner_id, event_key_id, event_actor, " \
  "event_data"

std::int64_t ClaimBits(std::uint64_t claim) { return std::bit_cast<std::int64_t>(claim); }

Delivery ReadDelivery(const SqliteStatement& read) {
  return {.id = read.Text(1),
          .destination = read.Text(2),
          .event = {.seq = read.Int(9),
                    .id = read.Text(10),
                    .type = read.Text(11),
                    .at = absl::FromUnixMillis(read.Int(12)),
                    .owner_id = read.Text(13),
                    .key_id = read.Text(14),
                    .actor = read.Text(15),
                    .data = read.Text(16)},
          .state = static_cast<DeliveryState>(read.Int(3)),
          .attempts = read.Int32(4),
          .due_at = absl::FromUnixMillis(read.Int(5)),
          .claim = std::bit_cast<std::uint64_t>(read.Int(6)),
          .last_http_status = read.Int32(7),
          .last_error = read.Text(8)};
}

absl::Status TakeClaim(SqliteConnection& db, const DeliveryClaim& claim) {
  // What this claim has already counts, so that repeating the call hands out the same deliveries.
  SqliteStatement write(db,
                        "UPDATE delivery SET claim = ?1, claimed_until = ?3 WHERE seq IN ("
                        " SELECT seq FROM delivery WHERE state = 1 AND due_at <= ?2"
                        " AND (claim = 0 OR claim = ?1 OR claimed_until <= ?2)"
                        " ORDER BY claim = ?1 DESC, due_at, seq LIMIT ?4)");
  write.Bind(ClaimBits(claim.claim))
      .Bind(absl::ToUnixMillis(claim.now))
      .Bind(absl::ToUnixMillis(claim.until))
      .Bind(claim.count_max);
  return write.Finish();
}

// Whoever has the claim may replace the delivery, again too; others may claim it when it is due
// again.
absl::Status PutDelivery(SqliteConnection& db, const Delivery& delivery) {
  SqliteStatement write(
      db,
      "INSERT INTO delivery(id, destination, state, attempts, due_at, claim, claimed_until, "
      "last_http_status, last_error, event_seq, event_id, event_type, event_at, event_owner_id, "
      "event_key_id, event_actor, event_data) "
      "VALUES(?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) "
      "ON CONFLICT(id) DO UPDATE SET state = ?3, attempts = ?4, due_at = ?5, "
      "claimed_until = 0, last_http_status = ?7, last_error = ?8 WHERE claim = ?6");
  const Event& event = delivery.event;
  write.Bind(delivery.id)
      .Bind(delivery.destination)
      .Bind(static_cast<std::int64_t>(delivery.state))
      .Bind(delivery.attempts)
      .Bind(absl::ToUnixMillis(delivery.due_at))
      .Bind(ClaimBits(delivery.claim))
      .Bind(delivery.last_http_status)
      .Bind(delivery.last_error)
      .Bind(event.seq)
      .Bind(event.id)
      .Bind(event.type)
      .Bind(absl::ToUnixMillis(event.at))
      .Bind(event.owner_id)
      .Bind(event.key_id)
      .Bind(event.actor)
      .Bind(event.data);
  return write.Finish();
}

// A period that has not ended by the latest settle still runs, whatever `before` says.
absl::StatusOr<std::int64_t> PruneCounters(SqliteConnection& db, absl::Time before,
                                           std::int64_t rows_max) {
  std::vector<CounterId> ids;
  {
    SqliteStatement read(db,
                         "SELECT subject, period_start FROM counter WHERE period_end < ? "
                         "AND period_end <= (SELECT CAST(value AS INTEGER) FROM meta "
                         "WHERE name = 'settled_at') "
                         "AND open_leases = 0 ORDER BY period_end LIMIT ?");
    read.Bind(absl::ToUnixMillis(before)).Bind(rows_max);
    while (read.Step()) ids.push_back({read.Text(0), absl::FromUnixSeconds(read.Int(1))});
    THROTTL_RETURN_IF_ERROR(read.status());
  }
  for (const CounterId& id : ids) {
    const std::int64_t start = absl::ToUnixSeconds(id.period_start);
    SqliteStatement leases(db, "DELETE FROM lease WHERE subject = ? AND period_start = ?");
    THROTTL_RETURN_IF_ERROR(leases.Bind(id.subject).Bind(start).Finish());
    SqliteStatement counter(db, "DELETE FROM counter WHERE subject = ? AND period_start = ?");
    THROTTL_RETURN_IF_ERROR(counter.Bind(id.subject).Bind(start).Finish());
  }
  return static_cast<std::int64_t>(ids.size());
}

// `sql` deletes what is older than its first parameter, at most its second of them.
absl::StatusOr<std::int64_t> PruneRows(SqliteConnection& db, const char* sql, absl::Time before,
                                       std::int64_t rows_max) {
  SqliteStatement erase(db, sql);
  THROTTL_RETURN_IF_ERROR(erase.Bind(absl::ToUnixMillis(before)).Bind(rows_max).Finish());
  return db.changes();
}

}  // namespace

absl::StatusOr<QuotaStore::Claimed> SqliteClaimDeliveries(SqliteConnection& db,
                                                          const DeliveryClaim& claim) {
  THROTTL_RETURN_IF_ERROR(TakeClaim(db, claim));
  QuotaStore::Claimed claimed;
  SqliteStatement read(db, "SELECT " THROTTL_DELIVERY_COLUMNS
                           " FROM delivery WHERE claim = ?1 AND claim <> 0 AND state = 1 "
                           "AND due_at <= ?2 AND claimed_until = ?3 "
                           "ORDER BY due_at, seq LIMIT ?4");
  read.Bind(ClaimBits(claim.claim))
      .Bind(absl::ToUnixMillis(claim.now))
      .Bind(absl::ToUnixMillis(claim.until))
      .Bind(claim.count_max);
  while (read.Step()) claimed.deliveries.push_back(ReadDelivery(read));
  THROTTL_RETURN_IF_ERROR(read.status());
  THROTTL_ASSIGN_OR_RETURN(
      claimed.planned_seq,
      db.ReadNumber("SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'planned_seq'"));
  return claimed;
}

absl::Status SqlitePutDeliveries(SqliteConnection& db, std::span<const Delivery> deliveries,
                                 std::int64_t planned_seq) {
  for (const Delivery& delivery : deliveries) {
    THROTTL_RETURN_IF_ERROR(PutDelivery(db, delivery));
  }
  SqliteStatement write(db,
                        "UPDATE meta SET value = max(CAST(value AS INTEGER), ?) "
                        "WHERE name = 'planned_seq'");
  return write.Bind(planned_seq).Finish();
}

absl::StatusOr<Page<Delivery>> SqliteListDeliveries(SqliteConnection& db,
                                                    const DeliveryQuery& query) {
  std::int64_t before = std::numeric_limits<std::int64_t>::max();
  if (!query.cursor.empty()) {
    const char* end = query.cursor.data() + query.cursor.size();
    const auto result = std::from_chars(query.cursor.data(), end, before);
    if (result.ec != std::errc() || result.ptr != end) {
      return absl::InvalidArgumentError("cursor is not a Page::next_cursor: it is not a number");
    }
  }
  SqliteStatement read(db, "SELECT " THROTTL_DELIVERY_COLUMNS
                           " FROM delivery WHERE seq < ?1 AND (?2 = '' OR event_owner_id = ?2) "
                           "AND (?3 = '' OR destination = ?3) AND (?4 = 0 OR state = ?4) "
                           "ORDER BY seq DESC LIMIT ?5");
  read.Bind(before)
      .Bind(query.owner_id)
      .Bind(query.destination)
      .Bind(query.state ? static_cast<std::int64_t>(*query.state) : 0)
      .Bind(std::int64_t{query.count_max} + 1);
  Page<Delivery> page;
  std::int64_t last_seq = 0;
  while (read.Step()) {
    if (page.items.size() == static_cast<std::size_t>(query.count_max)) {
      page.next_cursor = absl::StrCat(last_seq);
      break;
    }
    last_seq = read.Int(0);
    page.items.push_back(ReadDelivery(read));
  }
  THROTTL_RETURN_IF_ERROR(read.status());
  return page;
}

absl::StatusOr<std::int64_t> SqlitePrune(SqliteConnection& db, const PruneLimits& limits) {
  std::int64_t pruned = 0;
  if (limits.counters_before) {
    THROTTL_ASSIGN_OR_RETURN(pruned, PruneCounters(db, *limits.counters_before, limits.rows_max));
  }
  struct Table {
    const std::optional<absl::Time>& before;
    const char* sql;
  };
  const Table tables[] = {
      {limits.usage_before,
       "DELETE FROM usage_hour WHERE (key_id, start_at, holder) IN (SELECT key_id, start_at, "
       "holder FROM usage_hour WHERE start_at < ? ORDER BY start_at LIMIT ?)"},
      {limits.events_before,
       "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE at < ? ORDER BY at LIMIT ?)"},
      {limits.deliveries_before,
       "DELETE FROM delivery WHERE seq IN (SELECT seq FROM delivery WHERE event_at < ? "
       "AND state <> 1 ORDER BY event_at LIMIT ?)"},
  };
  for (const Table& table : tables) {
    if (!table.before || pruned >= limits.rows_max) continue;
    THROTTL_ASSIGN_OR_RETURN(const std::int64_t rows,
                             PruneRows(db, table.sql, *table.before, limits.rows_max - pruned));
    pruned += rows;
  }
  return pruned;
}

}  // namespace throttl::internal

#include "absl/strings/str_cat.h"

#include "src/base/status_macros.h"
#include "src/store/sqlite/sqlite_outbox.h"

namespace throttl::internal {
namespace {

enum class TextKind : std::int32_t { kEventType = 1, kSealedSecret = 2 };

// One statement for each way to ask: by id, by owner, everything. Parameters 1 and 2 are owner and
// id in all of them.
const char* ListSql(const WebhookQuery& query) {
#define THROTTL_WEBHOOK_HEAD "SELECT id, owner_id, url, active, version FROM webhook "
  if (!query.id.empty()) {
    return THROTTL_WEBHOOK_HEAD "WHERE id = ?2 AND (?1 = '' OR owner_id = ?1)";
  }
  if (!query.owner_id.empty()) {
    return THROTTL_WEBHOOK_HEAD "WHERE owner_id = ?1 AND ?2 = '' ORDER BY id";
  }
  return THROTTL_WEBHOOK_HEAD "WHERE ?1 = '' AND ?2 = '' ORDER BY id";
#undef THROTTL_WEBHOOK_HEAD
}

absl::Status ReadTexts(SqliteConnection& db, WebhookRecord& webhook) {
  SqliteStatement read(db,
                       "SELECT kind, value FROM webhook_text WHERE webhook_id = ? "
                       "ORDER BY kind, position");
  read.Bind(webhook.id);
  while (read.Step()) {
    std::vector<std::string>& texts = read.Int(0) == static_cast<std::int64_t>(TextKind::kEventType)
                                          ? webhook.event_types
                                          : webhook.sealed_secrets;
    texts.emplace_back(read.Blob(1));
  }
  return read.status();
}

absl::Status WriteTexts(SqliteConnection& db, const WebhookRecord& webhook, TextKind kind,
                        const std::vector<std::string>& texts) {
  std::int64_t position = 0;
  for (const std::string& text : texts) {
    SqliteStatement write(db, "INSERT INTO webhook_text VALUES(?, ?, ?, ?)");
    write.Bind(webhook.id)
        .Bind(static_cast<std::int32_t>(kind))
        .Bind(position++)
        .BindBlob({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
    THROTTL_RETURN_IF_ERROR(write.Finish());
  }
  return absl::OkStatus();
}

absl::Status WriteRow(SqliteConnection& db, const WebhookRecord& webhook) {
  SqliteStatement write(
      db, webhook.version == 1
              ? "INSERT INTO webhook(id, owner_id, url, active, version) "
                "VALUES(?1, ?2, ?3, ?4, ?5) ON CONFLICT(id) DO NOTHING"
              : "UPDATE webhook SET owner_id = ?2, url = ?3, active = ?4, version = ?5 "
                "WHERE id = ?1 AND version = ?5 - 1");
  write.Bind(webhook.id)
      .Bind(webhook.owner_id)
      .Bind(webhook.url)
      .Bind(std::int64_t{webhook.active})
      .Bind(webhook.version);
  return write.Finish();
}

}  // namespace

absl::StatusOr<std::vector<WebhookRecord>> SqliteListWebhooks(SqliteConnection& db,
                                                              const WebhookQuery& query) {
  SqliteStatement read(db, ListSql(query));
  read.Bind(query.owner_id).Bind(query.id);
  std::vector<WebhookRecord> webhooks;
  while (read.Step()) {
    WebhookRecord webhook{.id = read.Text(0),
                          .owner_id = read.Text(1),
                          .url = read.Text(2),
                          .active = read.Int(3) != 0,
                          .version = read.Int(4)};
    THROTTL_RETURN_IF_ERROR(ReadTexts(db, webhook));
    webhooks.push_back(std::move(webhook));
  }
  THROTTL_RETURN_IF_ERROR(read.status());
  return webhooks;
}

absl::Status SqlitePutWebhook(SqliteConnection& db, const WebhookRecord& webhook) {
  THROTTL_RETURN_IF_ERROR(WriteRow(db, webhook));
  if (db.changes() == 0) {
    if (webhook.version == 1) {
      return absl::AlreadyExistsError(
          absl::StrCat("a webhook has the id \"", webhook.id, "\" already"));
    }
    return absl::AbortedError(absl::StrCat("the stored version of webhook \"", webhook.id,
                                           "\" is not ", webhook.version - 1));
  }
  {
    SqliteStatement erase(db, "DELETE FROM webhook_text WHERE webhook_id = ?");
    THROTTL_RETURN_IF_ERROR(erase.Bind(webhook.id).Finish());
  }
  THROTTL_RETURN_IF_ERROR(WriteTexts(db, webhook, TextKind::kEventType, webhook.event_types));
  return WriteTexts(db, webhook, TextKind::kSealedSecret, webhook.sealed_secrets);
}

absl::Status SqliteDeleteWebhook(SqliteConnection& db, const ChangeSet::Deletion& deletion) {
  SqliteStatement erase(db, "DELETE FROM webhook WHERE id = ? AND version = ?");
  THROTTL_RETURN_IF_ERROR(erase.Bind(deletion.id).Bind(deletion.version).Finish());
  if (db.changes() != 0) return absl::OkStatus();
  return absl::AbortedError(absl::StrCat("the stored version of webhook \"", deletion.id,
                                         "\" is not ", deletion.version));
}

}  // namespace throttl::internal

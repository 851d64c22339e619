// A key on the plan `free`, from its first request to the first one that is refused, and on into
// the next month, when it may go on.
//
//   quickstart [FILE]      quickstart.db by default; made new
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>

#include <throttl/engine.h>

namespace {

constexpr int kRequests = 1'001;  // one more than `free` has in a month

std::string Day(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", time, absl::UTCTimeZone());
}

void Show(int request, const throttl::Decision& d) {
  std::cout << "request " << request << ", " << Day(d.decided_at) << ": "
            << throttl::CodeName(d.code) << ", " << d.quota.used << " of "
            << d.quota.limit.value_or(0) << " used";
  if (d.alert_percent > 0) std::cout << ", alert at " << d.alert_percent << " %";
  std::cout << '\n';
}

// A request every 6 seconds, which is as fast as the plan allows. What is new is shown.
throttl::Decision UseUp(throttl::Engine& engine, throttl::ManualClock& clock,
                        std::string_view secret) {
  throttl::Decision d;
  std::int32_t alert_shown = 0;
  for (int request = 1; request <= kRequests; ++request) {
    d = engine.Validate(secret, {.cost = 1, .method = "GET", .endpoint = "/v1/search"});
    if (request == 1 || d.alert_percent > alert_shown || !d.allowed()) Show(request, d);
    alert_shown = d.alert_percent;
    clock.Advance(absl::Seconds(6));
  }
  return d;
}

// Shows what the event log says of quotas after `seq`, and moves `seq` on.
absl::Status ShowQuotaEvents(throttl::Engine& engine, std::int64_t& seq) {
  const absl::Status status = engine.Flush();  // without this, within a settle interval
  if (!status.ok()) return status;
  const auto events = engine.ReadEvents(seq, 1000);
  if (!events.ok()) return events.status();
  for (const throttl::Event& event : *events) {
    seq = event.seq;
    if (!event.type.starts_with("quota.")) continue;
    std::cout << event.type << " of " << event.key_id << ": " << event.data << '\n';
  }
  return absl::OkStatus();
}

absl::Status Run(const std::string& path) {
  // A clock that this program moves by hand, so that it shows a month and always prints the same.
  const auto clock = std::make_shared<throttl::ManualClock>(absl::FromUnixSeconds(1767268800));
  auto engine = throttl::Engine::Open(path, {.settle_thread = false, .clock = clock});
  if (!engine.ok()) return engine.status();
  auto issued = (*engine)->CreateKey(
      {.owner_id = "acme", .plan_id = "free", .name = "prod", .id = "key_prod"});
  if (!issued.ok()) return issued.status();
  std::cout << "to be shown once: " << issued->secret.Reveal() << "\n\n";

  const throttl::Decision last = UseUp(**engine, *clock, issued->secret.Reveal());
  if (last.allowed() || !last.retry_after) return absl::InternalError("request 1001 was allowed");
  std::cout << "  HTTP " << last.http_status() << ", Retry-After: "
            << absl::ToInt64Seconds(absl::Ceil(*last.retry_after, absl::Seconds(1))) << "\n\n";
  std::int64_t seq = 0;
  if (absl::Status status = ShowQuotaEvents(**engine, seq); !status.ok()) return status;

  clock->JumpTo(last.decided_at + *last.retry_after);
  std::cout << "\nnothing runs at the end of a month, and yet:\n";
  Show(kRequests + 1, (*engine)->Validate(issued->secret.Reveal(), {.endpoint = "/v1/search"}));
  if (absl::Status status = ShowQuotaEvents(**engine, seq); !status.ok()) return status;

  std::cout << "\nusage as CSV:\n";
  const absl::Status status =
      (*engine)->ExportUsage("acme", throttl::ExportFormat::kCsv, [](std::string_view chunk) {
        return std::cout << chunk ? absl::OkStatus() : absl::UnavailableError("stdout is closed");
      });
  return status.ok() ? (*engine)->Close() : status;
}

}  // namespace

int main(int argc, char** argv) {
  const absl::Status status = Run(argc > 1 ? argv[1] : "quickstart.db");
  if (!status.ok()) std::cerr << status << '\n';
  return status.ok() ? 0 : 1;
}

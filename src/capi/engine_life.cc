// Opening, settling, copying and closing engines through the C ABI.
#include <cstddef>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

#include "src/capi/capi_call.h"
#include "src/capi/documents.h"

namespace throttl::capi {
namespace {

constexpr std::size_t kUrlBytesMax = 4096;

absl::StatusOr<throttl_engine*> Open(throttl_text url, throttl_text options) {
  const absl::StatusOr<std::string_view> url_text = TextOf(url, "url", kUrlBytesMax);
  if (!url_text.ok()) return url_text.status();
  const absl::StatusOr<std::string_view> text = TextOf(options, "options", kJsonBytesMax);
  if (!text.ok()) return text.status();
  const absl::StatusOr<Json> object = ParseObject(*text, "options");
  if (!object.ok()) return object.status();
  absl::StatusOr<OpenOptions> read = ReadOpenOptions(*object);
  if (!read.ok()) return read.status();
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Open(*url_text, std::move(read->engine));
  if (!engine.ok()) return engine.status();
  auto opened = std::make_unique<OpenEngine>();
  opened->engine = *std::move(engine);
  opened->clock = std::move(read->clock);
  return AddEngine(std::move(opened));
}

absl::Status Advance(ManualClock* clock, std::int64_t by_ms) {
  if (clock == nullptr) {
    return absl::FailedPreconditionError("the engine was opened without the option \"clock\"");
  }
  constexpr std::int64_t kByMax = std::int64_t{366} * 24 * 3'600'000 * 100;
  if (by_ms < 0 || by_ms > kByMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("by_ms is ", by_ms, ", 0 to ", kByMax, " are allowed"));
  }
  clock->Advance(absl::Milliseconds(by_ms));
  return absl::OkStatus();
}

}  // namespace
}  // namespace throttl::capi

extern "C" {

throttl_status throttl_open(throttl_text url, throttl_text options, throttl_engine** engine,
                            throttl_error** error) {
  using namespace throttl::capi;
  if (engine != nullptr) *engine = nullptr;
  return Guarded(error, [&]() -> absl::Status {
    if (engine == nullptr) return absl::InvalidArgumentError("engine is NULL");
    const absl::StatusOr<throttl_engine*> opened = Open(url, options);
    if (opened.ok()) *engine = *opened;
    return opened.status();
  });
}

throttl_status throttl_flush(throttl_engine* engine, throttl_error** error) {
  using namespace throttl::capi;
  return Guarded(error, [&]() -> absl::Status {
    const EngineCall call(engine);
    return call.engine() == nullptr ? NoSuchEngine(engine) : call.engine()->Flush();
  });
}

throttl_status throttl_backup(throttl_engine* engine, throttl_text destination,
                              throttl_error** error) {
  using namespace throttl::capi;
  return Guarded(error, [&]() -> absl::Status {
    const EngineCall call(engine);
    if (call.engine() == nullptr) return NoSuchEngine(engine);
    const absl::StatusOr<std::string_view> path = TextOf(destination, "destination", 4096);
    return path.ok() ? call.engine()->Backup(*path) : path.status();
  });
}

throttl_status throttl_close(throttl_engine* engine, throttl_error** error) {
  using namespace throttl::capi;
  return Guarded(error, [&]() -> absl::Status {
    const std::unique_ptr<OpenEngine> closed = RemoveEngine(engine);
    return closed == nullptr ? NoSuchEngine(engine) : closed->engine->Close();
  });
}

throttl_status throttl_clock_advance(throttl_engine* engine, int64_t by_ms, throttl_error** error) {
  using namespace throttl::capi;
  return Guarded(error, [&]() -> absl::Status {
    const EngineCall call(engine);
    return call.engine() == nullptr ? NoSuchEngine(engine) : Advance(call.clock(), by_ms);
  });
}

}  // extern "C"

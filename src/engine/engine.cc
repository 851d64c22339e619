#include "throttl/engine.h"

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "throttl/quota_store.h"

#include "src/base/call_gate.h"
#include "src/base/fork_registry.h"
#include "src/base/mutex.h"
#include "src/base/random_bytes.h"
#include "src/base/sip_hash.h"
#include "src/base/status_macros.h"
#include "src/base/system_clock.h"
#include "src/engine/engine_context.h"
#include "src/engine/explainer.h"
#include "src/engine/field_rules.h"
#include "src/engine/key_importer.h"
#include "src/engine/key_index.h"
#include "src/engine/key_manager.h"
#include "src/engine/plan_manager.h"
#include "src/engine/settle_thread.h"
#include "src/engine/settler.h"
#include "src/engine/table_registry.h"
#include "src/engine/upkeep.h"
#include "src/engine/usage_reader.h"
#include "src/engine/validator.h"
#include "src/export/usage_exporter.h"

namespace throttl {

using internal::EngineContext;

class Engine::Impl final : public internal::ForkParticipant {
 public:
  Impl(EngineContext context, std::unique_ptr<internal::KeyIndex> index, internal::SipKey sip_key)
      : context_(std::move(context)),
        settler_(context_, *context_.table),
        carry_(context_, settler_),
        plans_(context_, carry_),
        keys_(context_, plans_, carry_),
        importer_(context_, plans_),
        index_(std::move(index)),
        upkeep_(context_),
        usage_(context_, plans_, keys_, settler_),
        explainer_(context_, plans_, keys_, usage_, calls_),
        validator_({.context = context_,
                    .table = *context_.table,
                    .index = *index_,
                    .settler = settler_,
                    .gate = calls_,
                    .sip_key = sip_key}) {
    internal::AddForkParticipant(this);
  }
  ~Impl() override { internal::RemoveForkParticipant(this); }

  // Runs `call` while it counts as under way.
  template <typename Call>
  auto Run(const Call& call) -> decltype(call()) {
    const internal::CallGate::Call under_way(calls_);
    if (closed_.load(std::memory_order_acquire)) {
      return absl::FailedPreconditionError("the engine is closed");
    }
    return call();
  }

  Decision Decide(std::string_view secret, const Request& request,
                  internal::Validator::Mode mode) noexcept;
  std::int64_t Adjust(Decision& decision, std::int64_t actual_cost) noexcept {
    if (closed_.load(std::memory_order_relaxed)) return decision.spent;
    return validator_.Adjust(decision, actual_cost);
  }
  absl::Status Close();
  EngineStats stats() const;

  absl::Status Prepare();
  absl::StatusOr<std::vector<Event>> ReadEvents(std::int64_t after_seq, std::int32_t count_max,
                                                const Caller& caller);

  const EngineContext& context() const { return context_; }
  const internal::PlanManager& plans() const { return plans_; }
  const internal::KeyManager& keys() const { return keys_; }
  const internal::KeyImporter& importer() const { return importer_; }
  const internal::UsageReader& usage() const { return usage_; }
  const internal::Explainer& explainer() const { return explainer_; }
  absl::Status Flush(internal::Upkeep::Pace pace);

  void BeforeFork() override;
  void AfterFork() override;

 private:
  absl::Status CheckPeppers() const;
  void StartThread();
  absl::Status SettleByThread();
  absl::Status SettleAtLast();

  const EngineContext context_;
  internal::Settler settler_;
  const internal::CarryPlanner carry_;
  const internal::PlanManager plans_;
  const internal::KeyManager keys_;
  const internal::KeyImporter importer_;
  const std::unique_ptr<internal::KeyIndex> index_;
  internal::Upkeep upkeep_;
  const internal::UsageReader usage_;
  internal::CallGate calls_;
  const internal::Explainer explainer_;
  internal::Validator validator_;
  std::atomic<bool> closed_ = false;
  // Written while a call is under way or a fork holds them off.
  internal::Mutex thread_mutex_;
  std::unique_ptr<internal::SettleThread> thread_ THROTTL_GUARDED_BY(thread_mutex_);
  std::uint64_t thread_fork_ THROTTL_GUARDED_BY(thread_mutex_) = 0;
  std::atomic<bool> has_thread_ = false;
};

Decision Engine::Impl::Decide(std::string_view secret, const Request& request,
                              internal::Validator::Mode mode) noexcept {
  if (closed_.load(std::memory_order_relaxed)) return Decision{};
  if (!has_thread_.load(std::memory_order_relaxed) && context_.options.settle_thread) StartThread();
  return validator_.Decide(secret, request, mode);
}

void Engine::Impl::StartThread() {
  const internal::CallGate::Call under_way(calls_);
  const internal::MutexLock lock(thread_mutex_);
  if (thread_ != nullptr || closed_.load()) return;
  thread_fork_ = internal::ForkGeneration();
  thread_ = std::make_unique<internal::SettleThread>(context_.options.settle_interval, [this] {
    const absl::Status status = SettleByThread();
    // Outside of the call: the host may call the engine from here.
    if (!status.ok() && context_.options.log != nullptr) {
      context_.options.log(LogLevel::kWarning,
                           std::string("settling failed: ") + std::string(status.message()));
    }
  });
  has_thread_.store(true);
}

// REQUIRES a call under way.
absl::Status Engine::Impl::Flush(internal::Upkeep::Pace pace) {
  THROTTL_RETURN_IF_ERROR(settler_.Settle());
  absl::Status status = upkeep_.Run(pace);
  if (!status.ok()) context_.NoteStoreError(status);
  return status;
}

absl::Status Engine::Impl::SettleByThread() {
  const internal::CallGate::Call under_way(calls_);
  return Flush(internal::Upkeep::Pace::kWhenDue);
}

absl::Status Engine::Impl::SettleAtLast() {
  const internal::CallGate::Call under_way(calls_);
  return settler_.Settle();
}

void Engine::Impl::BeforeFork() {
  calls_.Close();
  validator_.LockForFork();
  context_.store->Suspend();
}

void Engine::Impl::AfterFork() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  if (thread_ != nullptr && thread_fork_ != internal::ForkGeneration()) {
    // A child has no such thread: its own is started when it is needed.
    static_cast<void>(thread_.release());
    has_thread_.store(false);
  }
  validator_.UnlockAfterFork();
  calls_.Open();
}

absl::Status Engine::Impl::Close() {
  std::unique_ptr<internal::SettleThread> thread;
  {
    const internal::CallGate::Call under_way(calls_);
    if (closed_.exchange(true)) return absl::OkStatus();
    const internal::MutexLock lock(thread_mutex_);
    thread = std::move(thread_);
  }
  thread.reset();  // it may be waiting for its turn in a call
  return SettleAtLast();
}

EngineStats Engine::Impl::stats() const {
  EngineStats stats{.allowed = validator_.counts().allowed(),
                    .refused = validator_.counts().refused(),
                    .key_cache_misses = validator_.counts().misses(),
                    .settles = settler_.settles(),
                    .settle_failures = settler_.failures()};
  stats.shadow_refusals = validator_.counts().shadow_refusals();
  if (settler_.last_settled_ms() != 0) {
    stats.last_settled_at = absl::FromUnixMillis(settler_.last_settled_ms());
  }
  const internal::MutexLock lock(context_.errors->mutex);
  stats.last_store_error = absl::Status(context_.errors->code, context_.errors->message);
  return stats;
}

// A key whose digest cannot be computed would be refused without a reason that anyone sees.
absl::Status Engine::Impl::CheckPeppers() const {
  THROTTL_ASSIGN_OR_RETURN(const std::vector<std::int32_t> versions,
                           context_.store->ReadPepperVersions());
  for (const std::int32_t version : versions) {
    if (context_.peppers.Has(version)) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("keys in the store need pepper version ", version, ", which was not given"));
  }
  return absl::OkStatus();
}

absl::Status Engine::Impl::Prepare() {
  return Run([this]() -> absl::Status {
    THROTTL_ASSIGN_OR_RETURN(const absl::Time newest, context_.store->ReadNewestTime());
    THROTTL_RETURN_IF_ERROR(context_.table->NoteNewest(absl::ToUnixMillis(newest)));
    THROTTL_RETURN_IF_ERROR(plans_.Seed());
    return CheckPeppers();
  });
}

absl::StatusOr<std::vector<Event>> Engine::Impl::ReadEvents(std::int64_t after_seq,
                                                            std::int32_t count_max,
                                                            const Caller& caller) {
  THROTTL_RETURN_IF_ERROR(internal::CheckCaller(caller));
  if (after_seq < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("after_seq is ", after_seq, ", 0 or more is allowed"));
  }
  if (count_max < 1 || count_max > kStoreBatchMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("count_max is ", count_max, ", 1 to ", kStoreBatchMax, " are allowed"));
  }
  if (caller.owner_id.empty()) return context_.store->ReadEvents(after_seq, count_max);
  // An owner sees its own events only: read on until there are enough of them.
  std::vector<Event> own;
  while (own.size() < static_cast<std::size_t>(count_max)) {
    THROTTL_ASSIGN_OR_RETURN(std::vector<Event> events,
                             context_.store->ReadEvents(after_seq, kStoreBatchMax));
    if (events.empty()) break;
    after_seq = events.back().seq;
    for (Event& event : events) {
      if (event.owner_id != caller.owner_id) continue;
      own.push_back(std::move(event));
      if (own.size() == static_cast<std::size_t>(count_max)) break;
    }
  }
  return own;
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Engine::~Engine() { Close().IgnoreError(); }

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(std::shared_ptr<QuotaStore> store,
                                                       EngineOptions options) {
  if (store == nullptr) return absl::InvalidArgumentError("store is null");
  THROTTL_RETURN_IF_ERROR(internal::CheckEngineOptions(options));
  THROTTL_ASSIGN_OR_RETURN(internal::PepperSet peppers,
                           internal::PepperSet::Create(options.peppers));
  options.peppers.clear();
  const bool uses_system_clock = options.clock == nullptr;
  if (uses_system_clock) options.clock = internal::MakeSystemClock();
  internal::SipKey sip_key;
  THROTTL_ASSIGN_OR_RETURN(sip_key[0], internal::RandomUint64(nullptr));
  THROTTL_ASSIGN_OR_RETURN(sip_key[1], internal::RandomUint64(nullptr));
  THROTTL_ASSIGN_OR_RETURN(const std::uint64_t seed, internal::RandomUint64(nullptr));
  THROTTL_ASSIGN_OR_RETURN(
      std::unique_ptr<internal::KeyIndex> index,
      internal::KeyIndex::Create({.capacity_max = options.cached_keys_max, .seed = seed}));
  THROTTL_ASSIGN_OR_RETURN(std::shared_ptr<internal::LeaseTable> table,
                           internal::TableOf(store, options));
  auto changes = std::make_shared<internal::ChangeGate>(*store, *table);
  auto impl = std::make_unique<Impl>(EngineContext{.store = std::move(store),
                                                   .options = std::move(options),
                                                   .peppers = std::move(peppers),
                                                   .uses_system_clock = uses_system_clock,
                                                   .table = std::move(table),
                                                   .change_gate = std::move(changes)},
                                     std::move(index), sip_key);
  THROTTL_RETURN_IF_ERROR(impl->Prepare());
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

Decision Engine::Validate(std::string_view secret, const Request& request) noexcept {
  return impl_->Decide(secret, request, internal::Validator::Mode::kSpend);
}

Decision Engine::Peek(std::string_view secret, const Request& request) noexcept {
  return impl_->Decide(secret, request, internal::Validator::Mode::kPeek);
}

std::int64_t Engine::Adjust(Decision& decision, std::int64_t actual_cost) noexcept {
  return impl_->Adjust(decision, actual_cost);
}

absl::StatusOr<Explanation> Engine::Explain(std::string_view key_id, const Request& request,
                                            const Caller& caller) {
  return impl_->Run([&] { return impl_->explainer().Explain(key_id, request, caller); });
}

absl::StatusOr<Usage> Engine::GetUsage(std::string_view key_id, const Caller& caller) {
  return impl_->Run([&] { return impl_->usage().Get(key_id, caller); });
}

absl::StatusOr<Page<Usage>> Engine::ListUsage(const KeyQuery& query, const Caller& caller) {
  return impl_->Run([&] { return impl_->usage().List(query, caller); });
}

absl::StatusOr<std::vector<UsageBucket>> Engine::UsageHistory(const UsageQuery& query,
                                                              const Caller& caller) {
  return impl_->Run([&] { return impl_->usage().History(query, caller); });
}

absl::Status Engine::ExportUsage(std::string_view owner_id, ExportFormat format,
                                 const std::function<absl::Status(std::string_view chunk)>& write,
                                 const Caller& caller) {
  THROTTL_ASSIGN_OR_RETURN(const std::unique_ptr<internal::UsageExporter> exporter,
                           internal::UsageExporter::Create({.format = format, .write = write}));
  KeyQuery query{.owner_id = std::string(owner_id), .count_max = kStoreBatchMax};
  do {
    THROTTL_ASSIGN_OR_RETURN(internal::UsagePage page, impl_->Run([&] {
      return impl_->usage().ListWithPlans(query, caller);
    }));
    // Outside of the call: `write` is the host's, and may call the engine, or fork.
    for (std::size_t i = 0; i < page.usage.items.size(); ++i) {
      THROTTL_RETURN_IF_ERROR(exporter->Add(page.usage.items[i], page.plan_names[i]));
    }
    query.cursor = std::move(page.usage.next_cursor);
  } while (!query.cursor.empty());
  return exporter->Finish();
}

absl::Status Engine::Flush() {
  return impl_->Run([&] { return impl_->Flush(internal::Upkeep::Pace::kNow); });
}

absl::StatusOr<IssuedKey> Engine::CreateKey(const Key& key, const Caller& caller) {
  return impl_->Run([&] { return impl_->keys().Create(key, caller); });
}

absl::StatusOr<ImportReport> Engine::ImportKeys(std::span<const ImportedKey> keys,
                                                const Caller& caller) {
  return impl_->Run([&] { return impl_->importer().Import(keys, caller); });
}

absl::StatusOr<IssuedKey> Engine::RotateKey(std::string_view key_id, const RotateOptions& options,
                                            const Caller& caller) {
  return impl_->Run([&] { return impl_->keys().Rotate(key_id, options, caller); });
}

absl::StatusOr<Key> Engine::UpdateKey(const Key& key, const Caller& caller, CarryOver carry_over) {
  return impl_->Run([&] { return impl_->keys().Update(key, caller, carry_over); });
}

absl::Status Engine::RevokeKey(std::string_view key_id, const Caller& caller) {
  return impl_->Run([&] { return impl_->keys().Revoke(key_id, caller); });
}

absl::StatusOr<Key> Engine::GetKey(std::string_view key_id, const Caller& caller) {
  return impl_->Run([&] { return impl_->keys().Get(key_id, caller); });
}

absl::StatusOr<Page<Key>> Engine::ListKeys(const KeyQuery& query, const Caller& caller) {
  return impl_->Run([&] { return impl_->keys().List(query, caller); });
}

absl::StatusOr<Plan> Engine::PutPlan(const Plan& plan, const Caller& caller, CarryOver carry_over) {
  return impl_->Run([&] { return impl_->plans().Put(plan, caller, carry_over); });
}

absl::Status Engine::DeletePlan(std::string_view plan_id, const Caller& caller) {
  return impl_->Run([&] { return impl_->plans().Delete(plan_id, caller); });
}

absl::StatusOr<Plan> Engine::GetPlan(std::string_view plan_id) {
  return impl_->Run([&] { return impl_->plans().Get(plan_id); });
}

absl::StatusOr<std::vector<Plan>> Engine::ListPlans() {
  return impl_->Run([&] { return impl_->plans().List(); });
}

absl::StatusOr<std::vector<Event>> Engine::ReadEvents(std::int64_t after_seq,
                                                      std::int32_t count_max,
                                                      const Caller& caller) {
  return impl_->Run([&] { return impl_->ReadEvents(after_seq, count_max, caller); });
}

absl::Status Engine::Backup(std::string_view destination) {
  return impl_->Run([&] { return impl_->context().store->Backup(destination); });
}

absl::Status Engine::Close() { return impl_->Close(); }

EngineStats Engine::stats() const { return impl_->stats(); }

const std::shared_ptr<QuotaStore>& Engine::store() const { return impl_->context().store; }

}  // namespace throttl

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
#include "src/base/status_macros.h"
#include "src/base/system_clock.h"
#include "src/engine/engine_context.h"
#include "src/engine/field_rules.h"
#include "src/engine/key_importer.h"
#include "src/engine/key_manager.h"
#include "src/engine/plan_manager.h"

namespace throttl {

using internal::EngineContext;

class Engine::Impl final : public internal::ForkParticipant {
 public:
  explicit Impl(EngineContext context)
      : context_(std::move(context)),
        plans_(context_),
        keys_(context_, plans_),
        importer_(context_, plans_) {
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

  void Close() { closed_.store(true, std::memory_order_release); }

  absl::Status Prepare();
  absl::StatusOr<std::vector<Event>> ReadEvents(std::int64_t after_seq, std::int32_t count_max,
                                                const Caller& caller);

  const EngineContext& context() const { return context_; }
  const internal::PlanManager& plans() const { return plans_; }
  const internal::KeyManager& keys() const { return keys_; }
  const internal::KeyImporter& importer() const { return importer_; }

  void BeforeFork() override {
    calls_.Close();
    context_.store->Suspend();
  }
  void AfterFork() override { calls_.Open(); }

 private:
  absl::Status CheckPeppers() const;

  const EngineContext context_;
  const internal::PlanManager plans_;
  const internal::KeyManager keys_;
  const internal::KeyImporter importer_;
  internal::CallGate calls_;
  std::atomic<bool> closed_ = false;
};

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
  if (options.clock == nullptr) options.clock = internal::MakeSystemClock();
  auto impl = std::make_unique<Impl>(EngineContext{
      .store = std::move(store), .options = std::move(options), .peppers = std::move(peppers)});
  THROTTL_RETURN_IF_ERROR(impl->Prepare());
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
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

absl::StatusOr<Key> Engine::UpdateKey(const Key& key, const Caller& caller) {
  return impl_->Run([&] { return impl_->keys().Update(key, caller); });
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

absl::StatusOr<Plan> Engine::PutPlan(const Plan& plan, const Caller& caller) {
  return impl_->Run([&] { return impl_->plans().Put(plan, caller); });
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

absl::Status Engine::Close() {
  impl_->Close();
  return absl::OkStatus();
}

const std::shared_ptr<QuotaStore>& Engine::store() const { return impl_->context().store; }

}  // namespace throttl

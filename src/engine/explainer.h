// An Explainer says why a key's request would be decided as it would.
//
// Thread safety: all methods from any thread.
//
//   THROTTL_ASSIGN_OR_RETURN(Explanation why, explainer.Explain("key_1", request, caller));
#ifndef THROTTL_SRC_ENGINE_EXPLAINER_H_
#define THROTTL_SRC_ENGINE_EXPLAINER_H_

#include <string_view>

#include "absl/status/statusor.h"

#include "throttl/engine.h"
#include "throttl/explanation.h"

#include "src/base/call_gate.h"
#include "src/engine/engine_context.h"
#include "src/engine/key_manager.h"
#include "src/engine/plan_manager.h"
#include "src/engine/usage_reader.h"

namespace throttl::internal {

class Explainer {
 public:
  // All outlive this.
  Explainer(const EngineContext& context, const PlanManager& plans, const KeyManager& keys,
            const UsageReader& usage, CallGate& gate)
      : context_(context), plans_(plans), keys_(keys), usage_(usage), gate_(gate) {}

  // What Engine::Explain promises.
  absl::StatusOr<Explanation> Explain(std::string_view key_id, const Request& request,
                                      const Caller& caller) const;

 private:
  absl::Status AddRates(const Key& key, const Plan& plan, const Request& request,
                        Explanation& explanation) const;
  absl::Status AddQuota(const Key& key, const Plan& plan, const Request& request,
                        const Caller& caller, Explanation& explanation) const;

  const EngineContext& context_;
  const PlanManager& plans_;
  const KeyManager& keys_;
  const UsageReader& usage_;
  CallGate& gate_;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_EXPLAINER_H_

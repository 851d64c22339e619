// Webhooks and mail through the C ABI, in a library that is built without a notifier.
#include "src/capi/capi_call.h"

namespace throttl::capi {
namespace {

absl::StatusOr<std::string> Unimplemented(const ManagementCall&) {
  return absl::UnimplementedError("this library is built without webhooks and mail");
}

}  // namespace
}  // namespace throttl::capi

extern "C" {

THROTTL_DEFINE_CALL(throttl_notifier_start, Unimplemented)
THROTTL_DEFINE_CALL(throttl_notifier_stop, Unimplemented)
THROTTL_DEFINE_CALL(throttl_webhook_create, Unimplemented)
THROTTL_DEFINE_CALL(throttl_webhook_update, Unimplemented)
THROTTL_DEFINE_CALL(throttl_webhook_rotate_secret, Unimplemented)
THROTTL_DEFINE_CALL(throttl_webhook_delete, Unimplemented)
THROTTL_DEFINE_CALL(throttl_webhook_list, Unimplemented)
THROTTL_DEFINE_CALL(throttl_delivery_list, Unimplemented)
THROTTL_DEFINE_CALL(throttl_delivery_retry, Unimplemented)

}  // extern "C"

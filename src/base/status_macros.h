// Macros that return early on an error.
//
// Thread safety: as the expressions in them.
//
//   THROTTL_RETURN_IF_ERROR(Check(key));
//   THROTTL_ASSIGN_OR_RETURN(Plan plan, FindPlan(id));
#ifndef THROTTL_SRC_BASE_STATUS_MACROS_H_
#define THROTTL_SRC_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define THROTTL_RETURN_IF_ERROR(expression)                                                      \
  do {                                                                                           \
    if (absl::Status throttl_status = (expression); !throttl_status.ok()) return throttl_status; \
  } while (false)

#define THROTTL_CONCAT_INNER(a, b) a##b
#define THROTTL_CONCAT(a, b) THROTTL_CONCAT_INNER(a, b)
#define THROTTL_ASSIGN_OR_RETURN(target, expression) \
  THROTTL_ASSIGN_OR_RETURN_IMPL(THROTTL_CONCAT(throttl_result_, __LINE__), target, expression)
#define THROTTL_ASSIGN_OR_RETURN_IMPL(result, target, expression) \
  auto result = (expression);                                     \
  if (!result.ok()) return std::move(result).status();            \
  target = *std::move(result)

#endif  // THROTTL_SRC_BASE_STATUS_MACROS_H_

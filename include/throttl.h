/* Throttl's C ABI: keys, quotas and rate limits, decided in process.
 *
 * Thread safety: any call from any thread, but for throttl_close and the free functions: see there.
 *
 * Conventions
 *  1. A decision is not an error. throttl_validate returns 1 when the request is allowed and 0 when
 *     it is not, whatever the reason, a misused argument included; why is in the throttl_decision.
 *     A zeroed decision refuses.
 *  2. Every other call that can fail returns a throttl_status, 0 for success, and on failure hands
 *     back an error object if `error` is not NULL. Free it with throttl_error_free.
 *  3. Handles may be used from any thread and closed in any order. Freeing NULL does nothing. A
 *     handle that is closed, of another kind or made up is refused (THROTTL_INVALID_ARGUMENT,
 *     THROTTL_CODE_INVALID_REQUEST) and never followed.
 *  4. Text in is a throttl_text: pointer and size, UTF-8, borrowed for the call; {NULL, 0} is
 *     empty. Text out is UTF-8, ends with NUL, and is freed with throttl_free.
 *  5. A struct begins with struct_size and comes from its _INIT macro. Fields are only appended. A
 *     smaller struct than this library's is filled as far as it goes; a larger one must hold zeros
 *     in what this library does not know.
 *  6. Times are int64 milliseconds since 1970 (UTC), durations int64 milliseconds, rounded up where
 *     they are waits. -1 means none: no limit, never.
 *  7. Management calls take one JSON object of at most 16 MiB and answer one JSON value: the C++
 *     structs, in snake_case, times in RFC 3339, durations in milliseconds with a name that ends in
 *     _ms, "no limit" as null. Unknown members, and members that stand there twice, are refused.
 *     Every one takes "caller": {"owner_id": ..., "actor": ...} beside its own members.
 *     throttl_key_update and throttl_plan_put take the members to change (RFC 7396: null clears).
 *     Empty text stands for {}.
 *  8. No call prints, exits, changes a signal handler or locale, or throws through this interface.
 *  9. Each declaration says since which version it is there. 1.0 unless it says another.
 */
#ifndef THROTTL_H_
#define THROTTL_H_

/* In C, names have one form and types a typedef. NOLINTBEGIN(readability-*,modernize-*) */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define THROTTL_API __declspec(dllimport)
#else
#define THROTTL_API __attribute__((visibility("default")))
#endif

#define THROTTL_VERSION_NUMBER 10000 /* major * 10000 + minor * 100 + patch */
/* Of the library that was loaded. */
THROTTL_API int32_t throttl_version_number(void);

/* Not "struct throttl": in C++ that name is the namespace. */
typedef struct throttl_engine throttl_engine;
typedef struct throttl_error throttl_error;

typedef struct throttl_text {
  const char* data;
  size_t size; /* bytes */
} throttl_text;
#define THROTTL_LITERAL(literal) \
  { (literal), sizeof(literal) - 1 }
/* Borrows; NULL is empty. */
THROTTL_API throttl_text throttl_text_of(const char* nul_terminated);

/* Numbers of absl::StatusCode. */
typedef int32_t throttl_status;
#define THROTTL_OK 0
#define THROTTL_INVALID_ARGUMENT 3  /* fix the call */
#define THROTTL_DEADLINE_EXCEEDED 4 /* outcome unknown: repeat */
#define THROTTL_NOT_FOUND 5
#define THROTTL_ALREADY_EXISTS 6
#define THROTTL_PERMISSION_DENIED 7   /* the caller is an owner, and this is for operators */
#define THROTTL_RESOURCE_EXHAUSTED 8  /* disk, memory or a bound; outcome unknown: repeat */
#define THROTTL_FAILED_PRECONDITION 9 /* fix the state */
#define THROTTL_ABORTED 10            /* changed in between: read again */
#define THROTTL_OUT_OF_RANGE 11
#define THROTTL_UNIMPLEMENTED 12
#define THROTTL_INTERNAL 13    /* our bug */
#define THROTTL_UNAVAILABLE 14 /* outcome unknown: repeat */
#define THROTTL_DATA_LOSS 15

/* THROTTL_OK of NULL, THROTTL_INVALID_ARGUMENT of what is no error object. */
THROTTL_API throttl_status throttl_error_status(const throttl_error* error);
/* Valid until the error is freed; empty of what is no error object. */
THROTTL_API const char* throttl_error_message(const throttl_error* error);
/* No other call may be using it. Freeing it again does nothing. */
THROTTL_API void throttl_error_free(throttl_error* error);
/* Text that a call handed back. */
THROTTL_API void throttl_free(void* text);

/* ---- The hot path -------------------------------------------------------------------------- */

#define THROTTL_CODE_STORE_UNAVAILABLE 0 /* 503 */
#define THROTTL_CODE_VALID 1             /* 200: the only one that allows */
#define THROTTL_CODE_MISSING 2           /* 401 */
#define THROTTL_CODE_MALFORMED 3         /* 401 */
#define THROTTL_CODE_NOT_FOUND 4         /* 401 */
#define THROTTL_CODE_INACTIVE 5          /* 401 */
#define THROTTL_CODE_EXPIRED 6           /* 401 */
#define THROTTL_CODE_FORBIDDEN 7         /* 403 */
#define THROTTL_CODE_SCOPE_MISSING 8     /* 403 */
#define THROTTL_CODE_RATE_LIMITED 9      /* 429 */
#define THROTTL_CODE_QUOTA_EXCEEDED 10   /* 429 */
#define THROTTL_CODE_INVALID_REQUEST 11  /* 400 */

#define THROTTL_FLAG_SECRET_RETIRING 1u
#define THROTTL_FLAG_UNMETERED 2u
#define THROTTL_FLAG_OVER_QUOTA 4u /* allowed beyond the limit, by soft_percent */

/* Each text has at most 1 MiB. */
typedef struct throttl_request {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */
  int64_t cost;      /* units */
  throttl_text secret;
  throttl_text method;
  throttl_text endpoint;
  throttl_text address;
  throttl_text scope;
} throttl_request;
#define THROTTL_REQUEST_INIT                                                          \
  {                                                                                   \
    (uint32_t)sizeof(throttl_request), 0, 1, {0, 0}, {0, 0}, {0, 0}, {0, 0}, { 0, 0 } \
  }

typedef struct throttl_decision {
  uint32_t struct_size;
  int32_t code; /* THROTTL_CODE_... */
  int32_t http_status;
  uint32_t flags; /* THROTTL_FLAG_... */
  int32_t alert_percent;
  int32_t quota_period; /* 0 none, 1 hour, 2 day, 3 week, 4 month, 5 year, 6 lifetime */
  int64_t spent;
  int64_t quota_limit; /* -1: no limit */
  int64_t quota_used;
  int64_t quota_remaining; /* -1: no limit */
  int64_t quota_resets_at_ms;
  int64_t rate_limit; /* -1: no rate limit matched */
  int64_t rate_remaining;
  int64_t rate_window_ms;
  int64_t rate_resets_at_ms;
  int64_t decided_at_ms;
  int64_t retry_after_ms; /* -1: waiting does not help */
  int64_t secret_expires_at_ms;
  uint64_t ticket[2];
  char key_id[40]; /* texts end with NUL */
  char owner_id[64];
  char plan_id[32];
  char rate_name[32];
  int64_t quota_starts_at_ms; /* -1: it has no end, or no key was found */
} throttl_decision;
#define THROTTL_DECISION_INIT                                                                \
  {                                                                                          \
    (uint32_t)sizeof(throttl_decision), 0, 503, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
        {0, 0}, {0}, {0}, {0}, {0}, 0                                                        \
  }

/* `decision` may be NULL, and need not be initialised but for struct_size. */
THROTTL_API int32_t throttl_validate(throttl_engine* engine, const throttl_request* request,
                                     throttl_decision* decision);
THROTTL_API int32_t throttl_peek(throttl_engine* engine, const throttl_request* request,
                                 throttl_decision* decision);
/* throttl_validate of `count` requests, in order; returns how many were allowed. `decisions` may be
 * NULL. Elements stand at the distance that the first one's struct_size says, and all have that
 * struct_size: otherwise all of them are refused. */
THROTTL_API size_t throttl_validate_many(throttl_engine* engine, const throttl_request* requests,
                                         throttl_decision* decisions, size_t count);
/* Makes the cost of an earlier decision `actual_cost`; returns what is now spent. */
THROTTL_API int64_t throttl_adjust(throttl_engine* engine, throttl_decision* decision,
                                   int64_t actual_cost);

THROTTL_API const char* throttl_code_name(int32_t code);        /* constant; for logs */
THROTTL_API const char* throttl_code_public_name(int32_t code); /* constant; for outsiders */

/* Both write like snprintf: at most `capacity` bytes with the NUL, and return the size that is
 * needed without it. Headers are "Name: value\r\n" lines. `options`: JSON of HttpOptions, or empty.
 * 0, and an empty text, for what is no decision or no options. */
THROTTL_API size_t throttl_http_headers(const throttl_decision* decision, throttl_text options,
                                        char* buffer, size_t capacity);
THROTTL_API size_t throttl_problem_json(const throttl_decision* decision, char* buffer,
                                        size_t capacity);
/* A view into one of the two headers. */
THROTTL_API throttl_text throttl_secret_from_headers(throttl_text authorization,
                                                     throttl_text x_api_key);

/* ---- Life ---------------------------------------------------------------------------------- */

/* options: JSON of EngineOptions, or empty. "clock": "2026-01-31T23:59:00Z" starts a clock that
 * only throttl_clock_advance moves. */
THROTTL_API throttl_status throttl_open(throttl_text url, throttl_text options,
                                        throttl_engine** engine, throttl_error** error);
THROTTL_API throttl_status throttl_flush(throttl_engine* engine, throttl_error** error);
THROTTL_API throttl_status throttl_backup(throttl_engine* engine, throttl_text destination,
                                          throttl_error** error);
/* Flushes, closes and frees; the handle is gone also when the status is not OK. Calls that are
 * under way in other threads end first; later ones are refused. */
THROTTL_API throttl_status throttl_close(throttl_engine* engine, throttl_error** error);
THROTTL_API throttl_status throttl_clock_advance(throttl_engine* engine, int64_t by_ms,
                                                 throttl_error** error);

/* ---- Management: all of one shape, so that a binding needs one declaration ----------------- */

/* `answer` may be NULL. It is set to NULL when the status is not OK. */
typedef throttl_status (*throttl_call)(throttl_engine* engine, throttl_text json, char** answer,
                                       throttl_error** error);

#define THROTTL_CALL(name)                                                                  \
  THROTTL_API throttl_status name(throttl_engine* engine, throttl_text json, char** answer, \
                                  throttl_error** error)

THROTTL_CALL(throttl_key_create); /* {settings of Key} -> {"key", "secret"} */
/* {"keys": [{settings, "id", "sha256", "used"}]} -> {"imported", "unchanged", "conflicts"} */
THROTTL_CALL(throttl_key_import);
THROTTL_CALL(throttl_key_rotate); /* {"id", "overlap_ms"} -> {"key", "secret"} */
THROTTL_CALL(throttl_key_update); /* {"id", changes, "version"?, "carry_over"?} -> key */
THROTTL_CALL(throttl_key_revoke); /* {"id"} -> null */
THROTTL_CALL(throttl_key_get);    /* {"id"} -> key */
THROTTL_CALL(throttl_key_list);   /* {KeyQuery} -> {"items", "next_cursor"} */
/* {"id", "cost", "method", "endpoint", "address", "scope"} -> explanation */
THROTTL_CALL(throttl_key_explain);
THROTTL_CALL(throttl_plan_put);      /* {"id", changes, "version"?, "carry_over"?} -> plan */
THROTTL_CALL(throttl_plan_delete);   /* {"id"} -> null */
THROTTL_CALL(throttl_plan_get);      /* {"id"} -> plan */
THROTTL_CALL(throttl_plan_list);     /* {} -> [plan] */
THROTTL_CALL(throttl_usage_get);     /* {"key_id"} -> usage */
THROTTL_CALL(throttl_usage_list);    /* {KeyQuery} -> {"items", "next_cursor"} */
THROTTL_CALL(throttl_usage_history); /* {UsageQuery} -> [bucket] */
THROTTL_CALL(throttl_usage_export);  /* {"owner_id", "format"} -> text (CSV: a JSON string) */
THROTTL_CALL(throttl_event_list);    /* {"after_seq", "count_max"} -> [event] */
THROTTL_CALL(throttl_stats);         /* {} -> stats */

/* Webhooks and mail: one notifier an engine, which ends with it. THROTTL_UNIMPLEMENTED in a library
 * built without. */
THROTTL_CALL(throttl_notifier_start);        /* {NotifierOptions} -> null */
THROTTL_CALL(throttl_notifier_stop);         /* {"timeout_ms"} -> null */
THROTTL_CALL(throttl_webhook_create);        /* {Webhook} -> {"webhook", "secret"} */
THROTTL_CALL(throttl_webhook_update);        /* {"id", changes} -> webhook */
THROTTL_CALL(throttl_webhook_rotate_secret); /* {"id", "overlap_ms"} -> {"secret"} */
THROTTL_CALL(throttl_webhook_delete);        /* {"id"} -> null */
THROTTL_CALL(throttl_webhook_list);          /* {} -> [webhook] */
THROTTL_CALL(throttl_delivery_list);         /* {DeliveryQuery} -> {"items", "next_cursor"} */
THROTTL_CALL(throttl_delivery_retry);        /* {"id"} -> null */

#ifdef __cplusplus
}
#endif

/* NOLINTEND(readability-*,modernize-*) */

#endif /* THROTTL_H_ */

/* A rotation with a day of overlap: the old secret goes on working, and says that it is retiring. */
#include <stdio.h>
#include <string.h>

#include <throttl.h>

static int Fail(throttl_error* error) {
  fprintf(stderr, "%s\n", throttl_error_message(error));
  throttl_error_free(error);
  return 1;
}

static throttl_text SecretIn(const char* issued) {
  const char* const secret = strstr(issued, "\"secret\":\"") + strlen("\"secret\":\"");
  throttl_text text;
  text.data = secret;
  text.size = strcspn(secret, "\"");
  return text;
}

static void Show(throttl_engine* engine, const char* which, throttl_text secret) {
  throttl_request request = THROTTL_REQUEST_INIT;
  throttl_decision decision = THROTTL_DECISION_INIT;
  request.secret = secret;
  throttl_validate(engine, &request, &decision);
  printf("%s: %s, %lld used%s\n", which, throttl_code_name(decision.code),
         (long long)decision.quota_used,
         decision.flags & THROTTL_FLAG_SECRET_RETIRING ? ", retiring" : "");
}

int main(void) {
  const throttl_text options = THROTTL_LITERAL("{\"clock\": \"2026-08-12T12:00:00Z\"}");
  const throttl_text url = THROTTL_LITERAL("memory:");
  const throttl_text new_key = THROTTL_LITERAL("{\"owner_id\": \"acme\", \"id\": \"key_1\"}");
  const throttl_text rotation = THROTTL_LITERAL(
      "{\"id\": \"key_1\", \"overlap_ms\": 86400000, \"caller\": {\"owner_id\": \"acme\"}}");
  throttl_engine* engine = NULL;
  throttl_error* error = NULL;
  char* first = NULL;
  char* second = NULL;

  if (throttl_open(url, options, &engine, &error) != THROTTL_OK) return Fail(error);
  if (throttl_key_create(engine, new_key, &first, &error) != THROTTL_OK) return Fail(error);
  Show(engine, "first", SecretIn(first));
  if (throttl_key_rotate(engine, rotation, &second, &error) != THROTTL_OK) return Fail(error);
  Show(engine, "first", SecretIn(first));
  Show(engine, "second", SecretIn(second));
  if (throttl_clock_advance(engine, 86400000, &error) != THROTTL_OK) return Fail(error);
  puts("a day later");
  Show(engine, "first", SecretIn(first));
  Show(engine, "second", SecretIn(second));
  throttl_free(first);
  throttl_free(second);
  if (throttl_close(engine, &error) != THROTTL_OK) return Fail(error);
  return 0;
}

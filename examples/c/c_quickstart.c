/* A key from its creation to its first refusal, and what the refused client gets. */
#include <stdio.h>
#include <string.h>

#include <throttl.h>

static int Fail(throttl_error* error) {
  fprintf(stderr, "%s\n", throttl_error_message(error));
  throttl_error_free(error);
  return 1;
}

/* The text of a member whose value is a text without escapes, as ids and secrets are. */
static throttl_text TextMember(const char* json, const char* name) {
  throttl_text text = {NULL, 0};
  const char* found = strstr(json, name);
  if (found == NULL) return text;
  text.data = found + strlen(name);
  text.size = strcspn(text.data, "\"");
  return text;
}

static void Show(const throttl_decision* decision) {
  printf("%s: %lld used, %lld left\n", throttl_code_name(decision->code),
         (long long)decision->quota_used, (long long)decision->quota_remaining);
}

int main(void) {
  /* A clock that only this program moves, so that it always prints the same. */
  const throttl_text options = THROTTL_LITERAL("{\"clock\": \"2026-08-12T12:00:00Z\"}");
  const throttl_text url = THROTTL_LITERAL("memory:");
  const throttl_text plan =
      THROTTL_LITERAL("{\"id\": \"three\", \"quota\": {\"limit\": 3, \"period\": \"day\"}}");
  const throttl_text new_key =
      THROTTL_LITERAL("{\"owner_id\": \"acme\", \"plan_id\": \"three\", \"name\": \"prod\"}");
  const throttl_text none = {NULL, 0};
  throttl_engine* engine = NULL;
  throttl_error* error = NULL;
  char* issued = NULL;
  throttl_request request = THROTTL_REQUEST_INIT;
  throttl_decision decision = THROTTL_DECISION_INIT;
  char text[1024];

  if (throttl_open(url, options, &engine, &error) != THROTTL_OK) return Fail(error);
  if (throttl_plan_put(engine, plan, NULL, &error) != THROTTL_OK) return Fail(error);
  if (throttl_key_create(engine, new_key, &issued, &error) != THROTTL_OK) return Fail(error);
  request.secret = TextMember(issued, "\"secret\":\"");
  while (throttl_validate(engine, &request, &decision)) Show(&decision);
  Show(&decision);
  throttl_http_headers(&decision, none, text, sizeof text);
  printf("HTTP %d\n%s", (int)decision.http_status, text);
  throttl_problem_json(&decision, text, sizeof text);
  puts(text);
  if (throttl_clock_advance(engine, decision.retry_after_ms, &error) != THROTTL_OK) {
    return Fail(error);
  }
  throttl_validate(engine, &request, &decision);
  Show(&decision);
  throttl_free(issued);
  if (throttl_close(engine, &error) != THROTTL_OK) return Fail(error);
  return 0;
}

/* Work whose cost is known afterwards: the most that it can take is spent first, and then made what
 * it took. */
#include <stdio.h>
#include <string.h>

#include <throttl.h>

static int Fail(throttl_error* error) {
  fprintf(stderr, "%s\n", throttl_error_message(error));
  throttl_error_free(error);
  return 1;
}

static void Chat(throttl_engine* engine, throttl_request* request, int64_t tokens_max,
                 int64_t tokens) {
  throttl_decision decision = THROTTL_DECISION_INIT;
  request->cost = tokens_max;
  if (!throttl_validate(engine, request, &decision)) {
    printf("up to %lld tokens: %s, %lld are left\n", (long long)tokens_max,
           throttl_code_name(decision.code), (long long)decision.quota_remaining);
    return;
  }
  printf("up to %lld tokens: valid; it took %lld", (long long)tokens_max, (long long)tokens);
  printf(", %lld are spent\n", (long long)throttl_adjust(engine, &decision, tokens));
}

int main(void) {
  const throttl_text options = THROTTL_LITERAL(
      "{\"clock\": \"2026-08-12T12:00:00Z\","
      " \"seed_plans\": [{\"id\": \"model\", \"quota\": {\"limit\": 1000}}]}");
  const throttl_text url = THROTTL_LITERAL("memory:");
  /* A digest from another system: its holder keeps the secret. */
  const throttl_text keys = THROTTL_LITERAL(
      "{\"keys\": [{\"owner_id\": \"acme\", \"plan_id\": \"model\", \"id\": \"old\", \"sha256\":"
      " \"9e04639e0fcad7c05937cc24a0b64b4fa9d2b50e6e20eb6a7f1fe2a4c8f3fcd5\"}]}");
  const throttl_text new_key = THROTTL_LITERAL("{\"owner_id\": \"acme\", \"plan_id\": \"model\"}");
  throttl_engine* engine = NULL;
  throttl_error* error = NULL;
  char* answer = NULL;
  const char* secret = NULL;
  throttl_request request = THROTTL_REQUEST_INIT;

  if (throttl_open(url, options, &engine, &error) != THROTTL_OK) return Fail(error);
  if (throttl_key_import(engine, keys, &answer, &error) != THROTTL_OK) return Fail(error);
  puts(answer);
  throttl_free(answer);
  if (throttl_key_create(engine, new_key, &answer, &error) != THROTTL_OK) return Fail(error);
  secret = strstr(answer, "\"secret\":\"") + strlen("\"secret\":\"");
  request.secret.data = secret;
  request.secret.size = strcspn(secret, "\"");
  Chat(engine, &request, 600, 150);
  Chat(engine, &request, 600, 640);
  Chat(engine, &request, 600, 1);
  Chat(engine, &request, 210, 210);
  throttl_free(answer);
  if (throttl_close(engine, &error) != THROTTL_OK) return Fail(error);
  return 0;
}

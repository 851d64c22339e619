// The first example of the README, as a program: tests/tidy_test.py compares the marked lines.
#include <iostream>

#include <throttl/engine.h>

int main() {
  // [README]
  auto engine = throttl::Engine::Open("throttl.db");  // made when it is not there
  if (!engine.ok()) return std::cerr << engine.status() << '\n', 1;

  auto issued = (*engine)->CreateKey({.owner_id = "acme", .plan_id = "free", .name = "prod"});
  if (!issued.ok()) return std::cerr << issued.status() << '\n', 1;
  std::cout << "to be shown once: " << issued->secret.Reveal() << '\n';

  throttl::Decision d = (*engine)->Validate(issued->secret.Reveal(), {.cost = 1});
  std::cout << throttl::CodeName(d.code) << ", " << *d.quota.remaining() << " requests left\n";
  return d.allowed() && (*engine)->RevokeKey(issued->key.id).ok() ? 0 : 1;
  // [/README]
}

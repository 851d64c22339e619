// A store of one's own under an engine: my_store.h keeps everything in maps.
#include <iostream>
#include <memory>

#include <throttl/engine.h>

#include "my_store.h"

namespace {

absl::StatusOr<std::unique_ptr<throttl::Engine>> OpenMine() {
  return throttl::Engine::Create(std::make_shared<acme::MapStore>(), {.secret_prefix = "acme"});
}

absl::Status Run() {
  auto engine = OpenMine();
  if (!engine.ok()) return engine.status();
  auto issued = (*engine)->CreateKey({.owner_id = "acme", .plan_id = "pro", .name = "prod"});
  if (!issued.ok()) return issued.status();
  std::cout << "a secret that begins with " << issued->secret.Reveal().substr(0, 5) << '\n';

  auto keys = (*engine)->ListKeys({.owner_id = "acme"});
  if (!keys.ok()) return keys.status();
  for (const throttl::Key& key : keys->items) {
    std::cout << key.name << " on " << key.plan_id << ", in " << (*engine)->store()->info().kind
              << '\n';
  }
  return (*engine)->Close();
}

}  // namespace

int main() {
  const absl::Status status = Run();
  if (!status.ok()) std::cerr << status << '\n';
  return status.ok() ? 0 : 1;
}

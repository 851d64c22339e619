// A user's program: opens a store on a file, makes a key, and finds it again after reopening.
#include <iostream>
#include <string>

#include <throttl/engine.h>

namespace {

absl::Status MakeAndFindKey(const std::string& path) {
  auto engine = throttl::Engine::Open(path);
  if (!engine.ok()) return engine.status();
  auto issued = (*engine)->CreateKey({.owner_id = "acme", .plan_id = "free", .name = "prod"});
  if (!issued.ok()) return issued.status();
  if (absl::Status closed = (*engine)->Close(); !closed.ok()) return closed;

  auto reopened = throttl::Engine::Open(path);
  if (!reopened.ok()) return reopened.status();
  auto found = (*reopened)->GetKey(issued->key.id);
  if (!found.ok()) return found.status();
  if (found->name != "prod") return absl::InternalError("another key was found");
  return (*reopened)->Close();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: consumer FILE\n";
    return 2;
  }
  const absl::Status status = MakeAndFindKey(argv[1]);
  if (!status.ok()) std::cerr << status << '\n';
  return status.ok() ? 0 : 1;
}

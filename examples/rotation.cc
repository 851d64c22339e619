// Rotation with a day of overlap: the holder has until then to put the new secret in place.
#include <iostream>
#include <string_view>

#include <throttl/engine.h>

namespace {

absl::Status Rotate(throttl::Engine& engine, std::string_view key_id, const throttl::Caller& me) {
  absl::StatusOr<throttl::IssuedKey> issued =
      engine.RotateKey(key_id, {.overlap = absl::Hours(24)}, me);
  if (!issued.ok()) return issued.status();
  std::cout << "new secret, shown once: " << issued->secret.Reveal().size() << " characters\n";
  const throttl::SecretInfo& old = issued->key.secrets[1];
  std::cout << "the one of " << old.created_at << " works until " << *old.expires_at << '\n';
  return absl::OkStatus();
}

absl::Status Run() {
  // A clock that stands, so that this program always prints the same.
  auto clock = std::make_shared<throttl::ManualClock>(absl::FromUnixSeconds(1767225600));
  auto engine = throttl::Engine::Open("memory:", {.clock = clock});
  if (!engine.ok()) return engine.status();
  auto issued = (*engine)->CreateKey({.owner_id = "acme", .name = "prod"});
  if (!issued.ok()) return issued.status();

  clock->Advance(absl::Hours(24 * 90));
  const throttl::Caller me = {.owner_id = "acme", .actor = "ann@acme.example"};
  if (absl::Status status = Rotate(**engine, issued->key.id, me); !status.ok()) return status;

  const throttl::Caller another = {.owner_id = "globex"};
  std::cout << "for another owner: " << Rotate(**engine, issued->key.id, another).code() << '\n';
  return (*engine)->Close();
}

}  // namespace

int main() {
  const absl::Status status = Run();
  if (!status.ok()) std::cerr << status << '\n';
  return status.ok() ? 0 : 1;
}

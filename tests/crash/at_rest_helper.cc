// An application that makes keys, hands their secrets over, and then idles: at_rest_test looks into
// its memory.
//
//   at_rest_helper DIRECTORY KEYS PEPPER DECOY...
//
// It writes each secret to its standard output and nothing else there, the messages of all statuses
// and of the log to DIRECTORY/messages, and a backup to DIRECTORY/backup.db. The decoys are for the
// test to find in its memory. It ends when its standard input does.

#include <sys/prctl.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "throttl/engine.h"

namespace {

using throttl::Engine;

class Application {
 public:
  Application(std::string directory, int keys, std::string pepper)
      : directory_(std::move(directory)),
        keys_(keys),
        pepper_(std::move(pepper)),
        messages_(directory_ + "/messages") {}

  // Whether everything went as it should.
  bool Run() {
    const int part = keys_ / 3;
    if (!Open(/*with_pepper=*/false) || !MakeKeys(part, "plain")) return false;
    if (!Open(/*with_pepper=*/true) || !MakeKeys(part, "peppered")) return false;
    FailToOpen();
    const absl::Status backup = engine_->Backup(directory_ + "/backup.db");
    Tell(backup);
    // Nothing comes after these that would write over what they left in memory.
    if (!backup.ok() || !MakeKeys(keys_ - 2 * part, "last")) return false;
    messages_.flush();
    return !failed_;
  }

 private:
  bool Open(bool with_pepper) {
    throttl::EngineOptions options;
    options.settle_thread = false;
    options.active_subjects_max = 1024;  // the lease file is as long as the table may grow
    options.log = [this](throttl::LogLevel, std::string_view text) { messages_ << text << '\n'; };
    if (with_pepper) options.peppers.push_back({.version = 1, .value = throttl::Secret(pepper_)});
    engine_ = nullptr;
    auto engine = Engine::Open(directory_ + "/rest.db", std::move(options));
    Tell(engine.status());
    if (engine.ok()) engine_ = *std::move(engine);
    return engine_ != nullptr;
  }

  void Tell(const absl::Status& status) { messages_ << status.ToString() << '\n'; }

  // A call that must be refused.
  void Refused(const absl::Status& status) {
    Tell(status);
    if (status.ok()) failed_ = true;
  }

  // Straight from the Secret into the pipe.
  void HandOver(const throttl::Secret& secret) {
    const std::string_view text = secret.Reveal();
    if (write(STDOUT_FILENO, text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
      failed_ = true;
    }
  }

  // Lets all of them go at the end, so that their memory is not used again for the next one.
  bool MakeKeys(int count, const std::string& name) {
    std::vector<throttl::IssuedKey> shown;
    for (int i = 0; i < count; ++i) {
      auto issued = engine_->CreateKey({.owner_id = "owner", .name = name});
      Tell(issued.status());
      if (!issued.ok()) return false;
      HandOver(issued->secret);
      if (!engine_->Validate(issued->secret.Reveal()).allowed()) return false;
      MisuseSecret(issued->secret);
      FailOn(issued->key);
      if (!RotateSometimes(issued->key.id, i, shown)) return false;
      RevokeSometimes(issued->key.id, i);
      shown.push_back(*std::move(issued));
    }
    return true;
  }

  bool RotateSometimes(const std::string& id, int number, std::vector<throttl::IssuedKey>& shown) {
    if (number % 3 == 0) return true;
    const absl::Duration overlap = number % 3 == 1 ? absl::ZeroDuration() : absl::Hours(1);
    auto rotated = engine_->RotateKey(id, {.overlap = overlap});
    Tell(rotated.status());
    if (!rotated.ok()) return false;
    HandOver(rotated->secret);
    shown.push_back(*std::move(rotated));
    return true;
  }

  // A host that takes a secret for an id.
  void MisuseSecret(const throttl::Secret& secret) {
    Refused(engine_->GetKey(secret.Reveal()).status());
    Refused(engine_->RotateKey(secret.Reveal()).status());
    Refused(engine_->RevokeKey(secret.Reveal()));
    Refused(engine_->GetPlan(secret.Reveal()).status());
    Refused(engine_->DeletePlan(secret.Reveal()));
  }

  void FailOn(const throttl::Key& key) {
    throttl::Key stale = key;
    stale.version += 100;
    Refused(engine_->UpdateKey(stale).status());
    Refused(engine_->CreateKey({.owner_id = "owner", .id = key.id}).status());
    Refused(engine_->CreateKey({.owner_id = "owner", .plan_id = "no-such-plan"}).status());
    Refused(engine_->RotateKey(key.id, {.overlap = absl::Hours(100'000)}).status());
    Refused(engine_->RotateKey(key.id, {}, {.owner_id = "another"}).status());
  }

  void RevokeSometimes(const std::string& id, int number) {
    if (number % 2 == 0) return;
    Tell(engine_->RevokeKey(id));
    Refused(engine_->RotateKey(id).status());
  }

  void FailToOpen() {
    Refused(Engine::Open(directory_ + "/rest.db").status());  // without the pepper
    Refused(Engine::Open(directory_).status());
    Refused(Engine::Open(directory_ + "/nowhere/rest.db").status());
  }

  const std::string directory_;
  const int keys_;
  const std::string pepper_;
  std::ofstream messages_;
  std::unique_ptr<Engine> engine_;
  bool failed_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);  // where only a parent may dump a process
  Application application(argv[1], std::atoi(argv[2]), argv[3]);
  if (!application.Run()) return 1;
  close(STDOUT_FILENO);
  char byte = 0;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return 0;
}

// Looks for secrets wherever an application that made keys may have left them.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"
#include "throttl/secret.h"

#include "src/base/sha256.h"
#include "src/key/secret_digest.h"
#include "src/key/secret_format.h"
#include "tests/crash/crash_parts.h"
#include "tests/crash/needle_set.h"
#include "tests/scale.h"

namespace throttl::testing {
namespace {

constexpr std::string_view kPepper = "a pepper of the test, 32 bytes..";
constexpr std::size_t kSecretSize = std::string_view("thr_live_").size() + internal::kBodySize;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string TextOf(const Sha256Digest& digest) {
  return std::string(internal::DigestBytes(digest));
}

// The application, as a child that idles until this object goes.
class IdleApplication {
 public:
  explicit IdleApplication(const std::vector<std::string>& arguments) {
    std::array<int, 2> in = {};
    std::array<int, 2> out = {};
    REQUIRE(pipe2(in.data(), O_CLOEXEC) == 0);
    REQUIRE(pipe2(out.data(), O_CLOEXEC) == 0);
    process_ = StartChild([&] {
      dup2(in[0], STDIN_FILENO);
      dup2(out[1], STDOUT_FILENO);
      std::vector<char*> argv = {const_cast<char*>(THROTTL_AT_REST_HELPER)};
      for (const std::string& text : arguments) argv.push_back(const_cast<char*>(text.c_str()));
      argv.push_back(nullptr);
      execv(argv[0], argv.data());
      return 1;
    });
    close(in[0]);
    close(out[1]);
    keep_ = in[1];
    std::array<char, 4096> bytes = {};
    for (ssize_t size = 0; (size = read(out[0], bytes.data(), bytes.size())) > 0;) {
      handed_over_.append(bytes.data(), static_cast<std::size_t>(size));
    }
    close(out[0]);
  }
  ~IdleApplication() {
    close(keep_);
    CHECK(WaitForChild(process_) == "");
  }
  IdleApplication(const IdleApplication&) = delete;
  IdleApplication& operator=(const IdleApplication&) = delete;

  pid_t process() const { return process_; }

  std::vector<std::string> Secrets() const {
    REQUIRE(handed_over_.size() % kSecretSize == 0);
    std::vector<std::string> secrets;
    for (std::size_t i = 0; i < handed_over_.size(); i += kSecretSize) {
      secrets.push_back(handed_over_.substr(i, kSecretSize));
    }
    return secrets;
  }

 private:
  pid_t process_ = -1;
  int keep_ = -1;
  std::string handed_over_;
};

// The core of a running process; empty where this machine has no gcore or does not let it.
std::string DumpCore(pid_t process, const ScratchDirectory& directory) {
  const std::string prefix = directory.File("core");
  const std::string log = directory.File("gcore.log");
  const pid_t child = StartChild([&] {
    const int file = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(file, STDOUT_FILENO);
    dup2(file, STDERR_FILENO);
    execlp("gcore", "gcore", "-a", "-o", prefix.c_str(), std::to_string(process).c_str(), nullptr);
    return 127;
  });
  const std::string end = WaitForChild(child);
  const std::string core = ReadFile(absl::StrCat(prefix, ".", process));
  std::filesystem::remove(absl::StrCat(prefix, ".", process));
  if (!core.empty()) return core;
  const std::string said = ReadFile(log);
  const bool permitted = said.find("ptrace: Operation not permitted") == std::string::npos;
  REQUIRE_MESSAGE((end == "exit status 127" || !permitted), (end + "\n" + said));
  MESSAGE(("skipped: the core dump; " + (permitted ? std::string("there is no gcore") : said)));
  return "";
}

std::string Found(const NeedleSet& needles, const std::string& text) {
  std::vector<std::string> names = needles.FindIn(text);
  if (names.size() > 10) names.resize(10);
  return absl::StrJoin(names, "; ");
}

struct Needles {
  NeedleSet secrets;
  NeedleSet digests;         // of which half is in the store
  NeedleSet stored_digests;  // raw ones: the search finds them where they must be
  NeedleSet pepper;
};

Needles NeedlesOf(const std::vector<std::string>& secrets) {
  Needles needles;
  for (const std::string& secret : secrets) {
    needles.secrets.AddSecret(secret);
    const Sha256Digest plain = Sha256(secret);
    const Sha256Digest peppered = internal::HmacSha256(kPepper, internal::DigestBytes(plain));
    for (const Sha256Digest& digest : {plain, peppered}) needles.digests.AddDigest(TextOf(digest));
  }
  needles.stored_digests.Add("plain", TextOf(Sha256(secrets.front())));
  needles.stored_digests.Add(
      "peppered",
      TextOf(internal::HmacSha256(kPepper, internal::DigestBytes(Sha256(secrets.back())))));
  needles.pepper.Add("pepper", kPepper);
  return needles;
}

TEST_CASE("after 100 keys no secret is in a file, a message or the memory of an idle process") {
  const ScratchDirectory directory;
  const auto decoy = internal::GenerateSecret("thr_live", nullptr);
  REQUIRE(decoy.ok());
  NeedleSet decoys;
  decoys.AddSecret(decoy->Reveal());
  const std::string shown(decoy->Reveal());
  std::vector<std::string> arguments = {directory.path(), std::to_string(Scaled(100)),
                                        std::string(kPepper), shown, absl::BytesToHexString(shown)};
  std::string upper = absl::BytesToHexString(shown);
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](char c) { return c >= 'a' ? static_cast<char>(c - 'a' + 'A') : c; });
  arguments.push_back(upper);
  for (const char* before : {"", "x", "xx"}) {
    arguments.emplace_back();
    absl::Base64Escape(before + shown, &arguments.back());
  }
  IdleApplication application(arguments);
  const std::vector<std::string> secrets = application.Secrets();
  REQUIRE(secrets.size() >= static_cast<std::size_t>(Scaled(100)));
  const Needles needles = NeedlesOf(secrets);

  const std::string core = DumpCore(application.process(), directory);
  if (!core.empty()) {
    CHECK(decoys.FindIn(core).size() == decoys.size());
    CHECK(Found(needles.secrets, core) == "");
  }
  std::string stored;
  for (const char* name : {"rest.db", "rest.db-wal", "backup.db"}) {
    CAPTURE(name);
    const std::string bytes = ReadFile(directory.File(name));
    CHECK(Found(needles.secrets, bytes) == "");
    CHECK(Found(needles.pepper, bytes) == "");
    stored += bytes;
  }
  CHECK(needles.stored_digests.FindIn(stored).size() == needles.stored_digests.size());
  int others = 0;
  for (const auto& file : std::filesystem::directory_iterator(directory.path())) {
    const std::string name = file.path().filename().string();
    if (name == "rest.db" || name == "rest.db-wal" || name == "backup.db") continue;
    CAPTURE(name);
    ++others;
    const std::string bytes = ReadFile(file.path().string());
    CHECK(Found(needles.secrets, bytes) == "");
    CHECK(Found(needles.digests, bytes) == "");
    CHECK(Found(needles.pepper, bytes) == "");
  }
  CHECK(others >= 3);  // messages, rest.db-shm, rest.db-gate
  const std::string messages = ReadFile(directory.File("messages"));
  CHECK(std::count(messages.begin(), messages.end(), '\n') > 10 * Scaled(100));
  MESSAGE(absl::StrCat(secrets.size(), " secrets, ", needles.secrets.size(), " forms of them; ",
                       core.size(), " bytes of core, ", stored.size(), " of store and backup, ",
                       messages.size(), " of messages"));
}

TEST_CASE("a secret that is given in the place of something else is not in the refusal") {
  auto engine = Engine::Open("memory:");
  REQUIRE(engine.ok());
  const auto issued = (*engine)->CreateKey({.owner_id = "owner"});
  REQUIRE(issued.ok());
  const std::string secret(issued->secret.Reveal());
  NeedleSet needles;
  needles.AddSecret(secret);
  Key update = issued->key;
  update.owner_id = secret;
  const std::vector<absl::Status> refusals = {
      (*engine)->CreateKey({.owner_id = "owner", .id = secret}).status(),
      (*engine)->CreateKey({.owner_id = "owner", .plan_id = secret}).status(),
      (*engine)->CreateKey({.owner_id = "owner", .secret_prefix = secret}).status(),
      (*engine)->CreateKey({.owner_id = "owner", .scopes = {secret + " "}}).status(),
      (*engine)->CreateKey({.owner_id = "owner", .addresses = {secret}}).status(),
      (*engine)->CreateKey({.owner_id = secret}, {.owner_id = "owner"}).status(),
      (*engine)->UpdateKey(update).status(),
      (*engine)->UpdateKey({.owner_id = "owner", .id = secret}).status(),
      (*engine)->ListKeys({.cursor = secret}).status(),
      (*engine)->GetKey(secret).status(),
      (*engine)->GetKey(secret + secret).status(),
      (*engine)->PutPlan({.id = secret}).status(),
      (*engine)->GetPlan(secret).status(),
      Engine::Open("memory:?" + secret + "=1").status(),
      Engine::Open("memory:", {.secret_prefix = secret}).status(),
  };
  for (const absl::Status& status : refusals) {
    CAPTURE(status.ToString());
    CHECK_FALSE(status.ok());
    CHECK(Found(needles, status.ToString()) == "");
  }
}

}  // namespace
}  // namespace throttl::testing

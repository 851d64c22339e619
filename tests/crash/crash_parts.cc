#include "tests/crash/crash_parts.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <random>
#include <system_error>

namespace throttl::testing {

ScratchDirectory::ScratchDirectory() {
  path_ = (std::filesystem::temp_directory_path() / "throttl-crash-XXXXXX").string();
  REQUIRE(mkdtemp(path_.data()) != nullptr);
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string ScratchDirectory::File(std::string_view name) const {
  return path_ + "/" + std::string(name);
}

void Report::Add(std::string_view problem) {
  const auto place = static_cast<std::size_t>(count_.fetch_add(1));
  if (place >= kKept) return;
  std::array<char, 400>& text = problems_[place];
  std::memcpy(text.data(), problem.data(), std::min(problem.size(), text.size() - 1));
}

std::string Report::Text() const {
  std::string text;
  for (const std::array<char, 400>& problem : problems_) {
    if (problem.front() != '\0') text.append(problem.data()).push_back('\n');
  }
  return text;
}

pid_t StartChild(const std::function<int()>& body, const ChildOptions& options) {
  // ThreadSanitizer's _exit writes out what is buffered, which is the parent's.
  std::cout.flush();
  std::fflush(nullptr);
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child != 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);  // it died before that
  alarm(options.seconds_max);
  _exit(body());
}

std::string WaitForChild(pid_t child) {
  int status = 0;
  if (child < 0) return "it could not be forked";
  while (waitpid(child, &status, 0) != child) {
    if (errno != EINTR) return "it cannot be waited for";
  }
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    return "signal " + std::to_string(signal) + (signal == SIGALRM ? ": it hung" : "");
  }
  return WEXITSTATUS(status) == 0 ? "" : "exit status " + std::to_string(WEXITSTATUS(status));
}

std::uint64_t RunSeed() {
  const char* given = getenv("THROTTL_TEST_SEED");
  if (given != nullptr) return std::strtoull(given, nullptr, 10);
  std::random_device device;
  return static_cast<std::uint64_t>(device()) << 32 | device();
}

}  // namespace throttl::testing

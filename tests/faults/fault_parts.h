// The parts that the tests of faults are made of: directories, files as bytes, child processes.
//
// Thread safety: for the thread of the test.
//
//   const ScratchDirectory scratch;
//   CHECK(InChild([&] { return OpenSqliteStore({.path = scratch / "x.db"}).status().ToString(); })
//         == "OK");
#ifndef THROTTL_TESTS_FAULTS_FAULT_PARTS_H_
#define THROTTL_TESTS_FAULTS_FAULT_PARTS_H_

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include <doctest/doctest.h>
#include <sqlite3.h>

namespace throttl::testing {

// A new directory under `parent`, the system's by default. It goes, with all in it, at the end.
class ScratchDirectory {
 public:
  explicit ScratchDirectory(const std::string& parent = std::filesystem::temp_directory_path())
      : path_(parent + "/throttl-test-XXXXXX") {
    REQUIRE(mkdtemp(path_.data()) != nullptr);
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline std::string ReadBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void WriteBytes(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  REQUIRE(file.good());
}

// Every file under `directory`, with mode, time of change and bytes: two are equal when nothing was
// written in between.
inline std::map<std::string, std::string> Listing(const std::string& directory) {
  std::map<std::string, std::string> listing;
  const auto add = [&](const std::string& path) {
    struct stat info = {};
    REQUIRE(lstat(path.c_str(), &info) == 0);
    listing[path] = absl::StrCat(info.st_mode, " ", info.st_nlink, " ", info.st_mtim.tv_sec, ".",
                                 info.st_mtim.tv_nsec, " ",
                                 S_ISREG(info.st_mode) ? ReadBytes(path) : std::string());
  };
  add(directory);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    add(entry.path().string());
  }
  return listing;
}

// Memory that this process shares with the children that it forks from now on.
template <typename T>
class SharedWithChildren {
 public:
  SharedWithChildren() {
    void* memory =
        mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    value_ = new (memory) T();
  }
  ~SharedWithChildren() { munmap(value_, sizeof(T)); }
  SharedWithChildren(const SharedWithChildren&) = delete;
  SharedWithChildren& operator=(const SharedWithChildren&) = delete;

  T& operator*() const { return *value_; }
  T* operator->() const { return value_; }

 private:
  T* value_;
};

// Forks a child that runs `body` and exits with what it returns.
inline pid_t StartChild(const std::function<int()>& body) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) _exit(body());
  return child;
}

// Waits for `child`: "exit 0", or "signal 9".
inline std::string WaitForChild(pid_t child) {
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) ? absl::StrCat("signal ", WTERMSIG(status))
                             : absl::StrCat("exit ", WEXITSTATUS(status));
}

// Polls `done`, for something that another process does; false after 30 s.
inline bool WaitUntil(const std::function<bool()>& done) {
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (!done()) {
    if (absl::Now() > deadline) return false;
    sched_yield();
  }
  return true;
}

// The text that `body` returns in a child process.
inline std::string InChild(const std::function<std::string()>& body) {
  int ends[2] = {-1, -1};
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  const pid_t child = StartChild([&] {
    const std::string text = body();
    const ssize_t written = write(ends[1], text.data(), text.size());
    return written == static_cast<ssize_t>(text.size()) ? 0 : 1;
  });
  close(ends[1]);
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t got = read(ends[0], buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
  }
  close(ends[0]);
  const std::string end = WaitForChild(child);
  return end == "exit 0" ? text : absl::StrCat("the child ended with ", end, ": ", text);
}

// A plain SQLite handle, as another program has it.
class PlainSqlite {
 public:
  explicit PlainSqlite(const std::string& path) {
    REQUIRE(sqlite3_open(path.c_str(), &db_) == SQLITE_OK);
    sqlite3_busy_timeout(db_, 10'000);
  }
  ~PlainSqlite() { sqlite3_close(db_); }
  PlainSqlite(const PlainSqlite&) = delete;
  PlainSqlite& operator=(const PlainSqlite&) = delete;

  // Runs every statement of `sql`. The columns of its rows, joined with '|', a line each.
  std::string Run(const std::string& sql) {
    std::string rows;
    const auto add = [](void* out, int columns, char** values, char**) {
      for (int i = 0; i < columns; ++i) {
        absl::StrAppend(static_cast<std::string*>(out), i == 0 ? "" : "|",
                        values[i] == nullptr ? "NULL" : values[i]);
      }
      static_cast<std::string*>(out)->push_back('\n');
      return 0;
    };
    const int code = sqlite3_exec(db_, sql.c_str(), add, &rows, nullptr);
    if (code != SQLITE_OK) return absl::StrCat("error: ", sqlite3_errmsg(db_));
    if (!rows.empty()) rows.pop_back();
    return rows;
  }
  sqlite3* handle() const { return db_; }

 private:
  sqlite3* db_ = nullptr;
};

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_FAULTS_FAULT_PARTS_H_

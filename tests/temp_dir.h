// A TempDir is a directory of a test's own, removed with what is in it when it goes.
//
// Thread safety: a value.
//
//   const throttl::testing::TempDir dir;  auto engine = throttl::Engine::Open(dir.File("a.db"));
#ifndef THROTTL_TESTS_TEMP_DIR_H_
#define THROTTL_TESTS_TEMP_DIR_H_

#include <stdlib.h>

#include <filesystem>
#include <string>
#include <system_error>

namespace throttl::testing {

class TempDir {
 public:
  TempDir() {
    std::string path = (std::filesystem::temp_directory_path() / "throttl_test_XXXXXX").string();
    if (mkdtemp(path.data()) == nullptr) std::abort();
    path_ = path;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_TEMP_DIR_H_

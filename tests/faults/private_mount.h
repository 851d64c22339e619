// A PrivateMount is a file system that this process alone sees and that goes with it.
//
// Thread safety: for the thread of the test, before it starts others.
//
//   const PrivateMount mount;
//   if (!mount.Tmpfs(directory, "size=1m")) return Skip...
#ifndef THROTTL_TESTS_FAULTS_PRIVATE_MOUNT_H_
#define THROTTL_TESTS_FAULTS_PRIVATE_MOUNT_H_

#include <sched.h>
#include <sys/mount.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"

namespace throttl::testing {

class PrivateMount {
 public:
  // Empty when mounts of this process are its own from now on, else why they cannot be.
  PrivateMount() {
    if (unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      refusal_ = absl::StrCat("no right to mount: ", std::generic_category().message(errno));
    }
  }
  ~PrivateMount() {
    for (const std::string& place : places_) umount2(place.c_str(), MNT_DETACH);
  }
  PrivateMount(const PrivateMount&) = delete;
  PrivateMount& operator=(const PrivateMount&) = delete;

  bool Tmpfs(const std::string& place, const std::string& options) {
    if (!refusal_.empty()) return false;
    if (mount("none", place.c_str(), "tmpfs", 0, options.c_str()) != 0) {
      refusal_ = absl::StrCat("mounting a tmpfs: ", std::generic_category().message(errno));
      return false;
    }
    places_.push_back(place);
    return true;
  }

  // Takes down what another program has mounted at `place`.
  void Own(const std::string& place) { places_.push_back(place); }

  // Why there is no mount; empty when there is.
  const std::string& refusal() const { return refusal_; }

 private:
  std::string refusal_;
  std::vector<std::string> places_;
};

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_FAULTS_PRIVATE_MOUNT_H_

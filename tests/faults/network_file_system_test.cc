// A FUSE mount stands for the file systems on which locks and shared memory cannot be relied on.

#include <spawn.h>
#include <sys/vfs.h>

#include <map>
#include <vector>

#include "absl/strings/match.h"

#include "throttl/sqlite_store.h"

#include "src/store/sqlite/sqlite_file.h"
#include "tests/faults/fault_parts.h"
#include "tests/faults/private_mount.h"

namespace throttl::testing {
namespace {

// Shows `from` at `place` through FUSE. Empty, or why it cannot be done here.
std::string Bindfs(const std::string& from, const std::string& place) {
  if (access("/dev/fuse", R_OK | W_OK) != 0) return "no /dev/fuse";
  std::string program = "bindfs";
  std::string stay_private = "-n";
  std::string source = from;
  std::string target = place;
  char* arguments[] = {program.data(), stay_private.data(), source.data(), target.data(), nullptr};
  pid_t child = 0;
  if (posix_spawnp(&child, "bindfs", nullptr, nullptr, arguments, environ) != 0) {
    return "bindfs is not installed";
  }
  // bindfs goes on in the background, as soon as the mount stands.
  const std::string end = WaitForChild(child);
  if (end != "exit 0") return absl::StrCat("bindfs ended with ", end);
  struct statfs system = {};
  REQUIRE(statfs(place.c_str(), &system) == 0);
  return system.f_type == 0x65735546 ? std::string() : "bindfs did not mount";
}

TEST_CASE("a store on a FUSE mount is refused with the reason, and nothing is written") {
  PrivateMount mount;
  const ScratchDirectory scratch;
  REQUIRE(mkdir((scratch / "real").c_str(), 0700) == 0);
  REQUIRE(mkdir((scratch / "mounted").c_str(), 0700) == 0);
  std::string refusal = mount.refusal();
  if (refusal.empty()) refusal = Bindfs(scratch / "real", scratch / "mounted");
  if (!refusal.empty()) {
    MESSAGE(absl::StrCat("skipped: ", refusal));
    return;
  }
  mount.Own(scratch / "mounted");
  for (const bool exists : {false, true}) {
    if (exists) REQUIRE(OpenSqliteStore({.path = scratch / "real/throttl.db"}).ok());
    const auto before = Listing(scratch / "real");
    const absl::Status status = OpenSqliteStore({.path = scratch / "mounted/throttl.db"}).status();
    CHECK(status.code() == absl::StatusCode::kFailedPrecondition);
    CHECK(absl::StrContains(
        status.message(),
        scratch / "mounted is on a network or user-space file system (FUSE), where locks and "
                  "shared memory cannot be relied on"));
    CHECK(Listing(scratch / "real") == before);
  }
  // A link into it is seen through.
  REQUIRE(symlink("mounted/throttl.db", (scratch / "link.db").c_str()) == 0);
  CHECK(
      absl::StrContains(OpenSqliteStore({.path = scratch / "link.db"}).status().message(), "FUSE"));
}

TEST_CASE("network file systems are known by their magic numbers") {
  // As linux/magic.h and statfs(2) have them.
  const std::map<std::int64_t, std::string> network = {
      {0x6969, "NFS"},        {0x517B, "SMB"},
      {0xFF534D42, "CIFS"},   {0xFE534D42, "SMB2"},
      {0x01021997, "9P"},     {0x65735546, "FUSE"},
      {0x00C36400, "Ceph"},   {0x0BD00BD0, "Lustre"},
      {0x5346414F, "AFS"},    {0x6B414653, "AFS"},
      {0x73757245, "Coda"},   {0x01161970, "GFS2"},
      {0x7461636F, "OCFS2"},  {0x47504653, "GPFS"},
      {0x19830326, "BeeGFS"}, {0x786F4256, "VirtualBox shared folder"},
      {0xBACBACBC, "vmhgfs"}};
  for (const auto& entry : network) {
    CHECK_MESSAGE(internal::NetworkFileSystemName(entry.first) == entry.second, entry.second);
  }
  // ext4, xfs, btrfs, tmpfs, overlayfs, zfs.
  const std::vector<std::int64_t> local = {0xEF53,     0x58465342, 0x9123683E,
                                           0x01021994, 0x794C7630, 0x2FC12FC1};
  for (const std::int64_t magic : local) {
    CHECK_MESSAGE(internal::NetworkFileSystemName(magic).empty(), magic);
  }
}

}  // namespace
}  // namespace throttl::testing

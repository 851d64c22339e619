#include "src/lease/lease_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"

#include "src/base/errno_status.h"
#include "src/base/status_macros.h"
#include "src/lease/huge_pages.h"

namespace throttl::internal {
namespace {

// Behind the bytes of the commit lock and the table lock.
constexpr off_t kUsersByte = 96;

int LockUsers(int file, short type) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = kUsersByte;
  lock.l_len = 1;
  return fcntl(file, F_OFD_SETLK, &lock) == 0 ? 0 : errno;
}

absl::StatusOr<int> OpenOwn(const std::string& path) {
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0) return ErrnoStatus(errno, absl::StrCat("opening the lease file ", path));
  struct stat status = {};
  if (fstat(file, &status) == 0 && S_ISREG(status.st_mode)) return file;
  close(file);
  return absl::FailedPreconditionError(
      absl::StrCat("the lease file ", path, " is not a regular file"));
}

}  // namespace

LeaseMemory::LeaseMemory(LeaseMemory&& other) noexcept { *this = std::move(other); }

LeaseMemory& LeaseMemory::operator=(LeaseMemory&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(file_, other.file_);
  std::swap(users_, other.users_);
  return *this;
}

LeaseMemory::~LeaseMemory() { Close(); }

void LeaseMemory::Close() {
  Unmap();
  if (file_ >= 0) close(file_);
  if (users_ >= 0) close(users_);
  file_ = users_ = -1;
}

absl::StatusOr<LeaseMemory> LeaseMemory::OpenPrivate(std::size_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no address space for a lease table of ", bytes, " bytes"));
  }
  LeaseMemory memory;
  memory.data_ = static_cast<char*>(data);
  memory.bytes_ = bytes;
  if (madvise(data, bytes, MADV_WIPEONFORK) != 0) {
    return ErrnoStatus(errno, "keeping the lease table from forked children");
  }
  return memory;
}

absl::StatusOr<LeaseMemory> LeaseMemory::OpenFile(const std::string& path) {
  LeaseMemory memory;
  memory.path_ = path;
  THROTTL_ASSIGN_OR_RETURN(memory.users_, OpenOwn(absl::StrCat(path, "-lock")));
  THROTTL_ASSIGN_OR_RETURN(memory.file_, OpenOwn(path));
  const int error = LockUsers(memory.users_, F_RDLCK);
  if (error != 0) return ErrnoStatus(error, absl::StrCat("locking ", path, "-lock"));
  return memory;
}

absl::StatusOr<bool> LeaseMemory::IsOnlyUser() {
  if (file_ < 0) return true;
  const int error = LockUsers(users_, F_WRLCK);
  if (error == EAGAIN) return false;
  if (error != 0) return ErrnoStatus(error, absl::StrCat("locking ", path_, "-lock"));
  const int back = LockUsers(users_, F_RDLCK);
  if (back != 0) return ErrnoStatus(back, absl::StrCat("locking ", path_, "-lock"));
  return true;
}

absl::StatusOr<std::size_t> LeaseMemory::FileBytes() const {
  struct stat status = {};
  if (fstat(file_, &status) != 0) return ErrnoStatus(errno, absl::StrCat("looking at ", path_));
  return static_cast<std::size_t>(status.st_size);
}

absl::Status LeaseMemory::Clear(std::size_t bytes) {
  if (file_ < 0) return absl::OkStatus();
  if (ftruncate(file_, 0) != 0 || ftruncate(file_, static_cast<off_t>(bytes)) != 0) {
    return ErrnoStatus(errno, absl::StrCat("making ", path_, " ", bytes, " bytes long"));
  }
  return absl::OkStatus();
}

absl::Status LeaseMemory::Map(std::size_t bytes) {
  if (file_ < 0) return absl::OkStatus();
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
  if (data == MAP_FAILED) return ErrnoStatus(errno, absl::StrCat("mapping ", path_));
  data_ = static_cast<char*>(data);
  bytes_ = bytes;
  return absl::OkStatus();
}

void LeaseMemory::Unmap() {
  if (data_ != nullptr) munmap(data_, bytes_);
  data_ = nullptr;
}

absl::Status LeaseMemory::Allocate(std::size_t offset, std::size_t bytes) {
  AdviseHugePages(data_ + offset, bytes);
  if (file_ < 0) return absl::OkStatus();
  const int error = posix_fallocate(file_, static_cast<off_t>(offset), static_cast<off_t>(bytes));
  if (error == 0) return absl::OkStatus();
  return ErrnoStatus(error, absl::StrCat("allocating ", bytes, " bytes of ", path_));
}

}  // namespace throttl::internal

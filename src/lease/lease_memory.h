// LeaseMemory is the memory that a lease table lies in: a file that the processes of a machine map,
// or private memory of one process.
//
// Beside the file "X" lies "X-lock", for locks only, which is never removed: so whoever finds no
// "X", or one that is not to be trusted, knows whether others still use theirs.
//
// Thread safety: Allocate is called by one thread at a time; the rest is constant once it is open.
//
//   THROTTL_ASSIGN_OR_RETURN(LeaseMemory memory, LeaseMemory::OpenPrivate(1 << 20));
#ifndef THROTTL_SRC_LEASE_LEASE_MEMORY_H_
#define THROTTL_SRC_LEASE_LEASE_MEMORY_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace throttl::internal {

class LeaseMemory {
 public:
  LeaseMemory() = default;
  LeaseMemory(LeaseMemory&& other) noexcept;
  LeaseMemory& operator=(LeaseMemory&& other) noexcept;
  ~LeaseMemory();

  // `bytes` of zeros that this process alone has. A forked child finds zeros again.
  static absl::StatusOr<LeaseMemory> OpenPrivate(std::size_t bytes);

  // Opens the file at `path`, and makes an empty one with mode 0600 where there is none; maps
  // nothing yet. Counts as a user of it until destruction. FailedPrecondition: it is not a regular
  // file, or may not be opened.
  static absl::StatusOr<LeaseMemory> OpenFile(const std::string& path);

  // Whether nobody else has the file open. Only true when no one can come to have it: the caller
  // holds the table lock, which every opener takes.
  absl::StatusOr<bool> IsOnlyUser();

  // Bytes of the file.
  absl::StatusOr<std::size_t> FileBytes() const;

  // Forgets what the file held, and makes it `bytes` long without allocating them.
  // REQUIRES: IsOnlyUser.
  absl::Status Clear(std::size_t bytes);

  // Maps the file, which has so many bytes. Private memory is mapped from the start.
  absl::Status Map(std::size_t bytes);
  void Unmap();

  // Makes sure that memory is there behind a part of the map, so that touching it cannot fail.
  // ResourceExhausted: the disk is full.
  absl::Status Allocate(std::size_t offset, std::size_t bytes);

  char* data() const { return data_; }

 private:
  void Close();

  std::string path_;
  char* data_ = nullptr;
  std::size_t bytes_ = 0;
  int file_ = -1;   // -1: private memory
  int users_ = -1;  // of the lock file: a shared lock says that this process is a user
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_LEASE_LEASE_MEMORY_H_

// Opening a lease table: whether the one that is there is to be trusted, and making a new one.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"

#include "src/base/absl_string.h"
#include "src/base/errno_status.h"
#include "src/base/random_bytes.h"
#include "src/base/status_macros.h"
#include "src/lease/lease_table.h"

namespace throttl::internal {
namespace {

constexpr std::uint64_t kSlotsMaxMax = std::uint64_t{1} << 30;
constexpr std::int64_t kCommitLockByte = 0;
constexpr std::int64_t kTableLockByte = KernelLock::kBytes;
constexpr std::uint64_t kSlotsMaxMin = 1024;
// An opener waits for others that open, who may allocate.
constexpr absl::Duration kOpenTimeout = absl::Seconds(10);

std::size_t IndexBytes(std::uint64_t slots_max) {
  // One region for each size up to twice as many entries as slots, one behind the other.
  return slots_max * 4 * sizeof(std::uint32_t);
}

std::size_t RatesOffset(std::uint64_t slots_max) {
  return kHeaderBytes + IndexBytes(slots_max) + slots_max * (sizeof(HotSlot) + sizeof(ColdSlot));
}

std::size_t TableBytes(std::uint64_t slots_max, std::uint64_t rates_max) {
  return RatesOffset(slots_max) + RateTable::BytesFor(rates_max);
}

std::uint64_t RoundedUp(std::int64_t wanted_max, std::uint64_t least) {
  return std::bit_ceil(std::max(static_cast<std::uint64_t>(wanted_max), least));
}

// The kernel's number of this boot.
absl::StatusOr<std::string> ReadBootId() {
  const char* const path = "/proc/sys/kernel/random/boot_id";
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return ErrnoStatus(errno, absl::StrCat("opening ", path));
  char text[63] = {};
  const ssize_t bytes = read(file, text, sizeof(text));
  const int error = errno;
  close(file);
  if (bytes < 0) return ErrnoStatus(error, absl::StrCat("reading ", path));
  std::string id(text, static_cast<std::size_t>(bytes));
  id.erase(std::min(id.find('\n'), id.size()));
  if (id.empty()) return absl::InternalError(absl::StrCat(path, " is empty"));
  return id;
}

absl::Status CheckOptions(const LeaseTableOptions& options) {
  if (options.slots_max < 1 || options.slots_max > std::int64_t{kSlotsMaxMax}) {
    return absl::InvalidArgumentError(
        absl::StrCat("slots_max is ", options.slots_max, ", 1 to ", kSlotsMaxMax, " are allowed"));
  }
  if (options.rates_max < 1 || options.rates_max > std::int64_t{kSlotsMaxMax}) {
    return absl::InvalidArgumentError(
        absl::StrCat("rates_max is ", options.rates_max, ", 1 to ", kSlotsMaxMax, " are allowed"));
  }
  if (options.store_id.empty() || options.store_id.size() > 63) {
    return absl::InvalidArgumentError(
        absl::StrCat("the store id has ", options.store_id.size(), " bytes, 1 to 63 are allowed"));
  }
  return absl::OkStatus();
}

}  // namespace

LeaseTable::LeaseTable(LeaseTableOptions options)
    : options_(std::move(options)),
      commit_lock_(options_.path.empty() ? "" : options_.path + "-lock", kCommitLockByte),
      table_lock_(options_.path.empty() ? "" : options_.path + "-lock", kTableLockByte) {}

LeaseTable::~LeaseTable() { RemoveForkParticipant(this); }

absl::StatusOr<std::unique_ptr<LeaseTable>> LeaseTable::Open(LeaseTableOptions options) {
  THROTTL_RETURN_IF_ERROR(CheckOptions(options));
  std::unique_ptr<LeaseTable> table(new LeaseTable(std::move(options)));
  AddForkParticipant(table.get());
  THROTTL_RETURN_IF_ERROR(table->OpenMemory());
  return table;
}

void LeaseTable::SetPointers() {
  char* const data = memory_.data();
  char* const slots = data + kHeaderBytes + IndexBytes(slots_max_);
  header_ = reinterpret_cast<LeaseHeader*>(data);
  index_ = reinterpret_cast<std::atomic<std::uint32_t>*>(data + kHeaderBytes);
  hot_ = reinterpret_cast<HotSlot*>(slots);
  cold_ = reinterpret_cast<ColdSlot*>(slots + slots_max_ * sizeof(HotSlot));
  const std::size_t rates = RatesOffset(slots_max_);
  rates_.Attach(header_->rates, reinterpret_cast<RateEntry*>(data + rates), rates_max_,
                [this, rates](std::size_t offset, std::size_t bytes) {
                  return memory_.Allocate(rates + offset, bytes);
                });
}

absl::Status LeaseTable::OpenMemory() {
  THROTTL_ASSIGN_OR_RETURN(const std::string boot_id, ReadBootId());
  slots_max_ = RoundedUp(options_.slots_max, kSlotsMaxMin);
  rates_max_ = RoundedUp(options_.rates_max, RateTable::kEntriesMin);
  if (options_.path.empty()) {
    THROTTL_ASSIGN_OR_RETURN(memory_, LeaseMemory::OpenPrivate(TableBytes(slots_max_, rates_max_)));
    SetPointers();
    return MakeNew(boot_id);
  }
  THROTTL_ASSIGN_OR_RETURN(const LeaseLock::Hold hold, table_lock_.Acquire(kOpenTimeout));
  THROTTL_ASSIGN_OR_RETURN(memory_, LeaseMemory::OpenFile(options_.path));
  THROTTL_ASSIGN_OR_RETURN(const bool only_user, memory_.IsOnlyUser());
  THROTTL_ASSIGN_OR_RETURN(const std::size_t bytes, memory_.FileBytes());
  THROTTL_ASSIGN_OR_RETURN(const std::string untrusted, WhyUntrusted(bytes, boot_id));
  if (untrusted.empty() && !(only_user && WantsOtherSize())) {
    Recover();
    return absl::OkStatus();
  }
  if (!only_user) {
    return absl::FailedPreconditionError(
        absl::StrCat("the lease file ", options_.path, " ", untrusted,
                     ", while other processes use the lease table of this store: end them first"));
  }
  memory_.Unmap();
  slots_max_ = RoundedUp(options_.slots_max, kSlotsMaxMin);
  rates_max_ = RoundedUp(options_.rates_max, RateTable::kEntriesMin);
  THROTTL_RETURN_IF_ERROR(memory_.Clear(TableBytes(slots_max_, rates_max_)));
  THROTTL_RETURN_IF_ERROR(memory_.Allocate(0, kHeaderBytes));
  THROTTL_RETURN_IF_ERROR(memory_.Map(TableBytes(slots_max_, rates_max_)));
  SetPointers();
  return MakeNew(boot_id);
}

// Empty when the mapped file is a table of this store and boot; else what is wrong with it.
absl::StatusOr<std::string> LeaseTable::WhyUntrusted(std::size_t file_bytes,
                                                     std::string_view boot_id) {
  if (file_bytes < kHeaderBytes) return "is missing or was removed";
  // When the disk was full, a file was left of which nothing is allocated.
  THROTTL_RETURN_IF_ERROR(memory_.Allocate(0, kHeaderBytes));
  THROTTL_RETURN_IF_ERROR(memory_.Map(file_bytes));
  header_ = reinterpret_cast<LeaseHeader*>(memory_.data());
  if (header_->magic.load() != kLeaseMagic || header_->ready.load() != 1) {
    return "is not a lease file, or a damaged one";
  }
  if (header_->layout_version.load() != kLeaseLayoutVersion) {
    return absl::StrCat("has the layout ", header_->layout_version.load(), " instead of ",
                        kLeaseLayoutVersion);
  }
  const std::uint64_t slots_max = header_->slots_max.load();
  const std::uint64_t rates_max = header_->rates_max.load();
  if (slots_max > kSlotsMaxMax || rates_max > kSlotsMaxMax ||
      TableBytes(slots_max, rates_max) != file_bytes) {
    return "was cut or is damaged";
  }
  if (header_->store_id.Load().view() != options_.store_id) return "belongs to another store";
  if (header_->boot_id.Load().view() != boot_id) return "is of another boot of the machine";
  slots_max_ = slots_max;
  rates_max_ = rates_max;
  SetPointers();
  return "";
}

// Whether a table of another size is asked for, and nothing of this one would be lost.
bool LeaseTable::WantsOtherSize() const {
  if (RoundedUp(options_.slots_max, kSlotsMaxMin) == slots_max_ &&
      RoundedUp(options_.rates_max, RateTable::kEntriesMin) == rates_max_) {
    return false;
  }
  if (header_->intent_valid.load() != 0 || header_->changing.load() != 0) return false;
  for (std::uint64_t slot = 0; slot < header_->slots_begun.load(); ++slot) {
    if (hot_[slot].consumed.load() != hot_[slot].settled.load()) return false;
  }
  return true;
}

absl::Status LeaseTable::MakeNew(const std::string& boot_id) {
  THROTTL_ASSIGN_OR_RETURN(const std::uint64_t holder, RandomUint64(nullptr));
  THROTTL_ASSIGN_OR_RETURN(const std::uint64_t seed, RandomUint64(nullptr));
  THROTTL_ASSIGN_OR_RETURN(const std::uint64_t claim, RandomUint64(nullptr));
  header_->magic.store(kLeaseMagic);
  header_->layout_version.store(kLeaseLayoutVersion);
  header_->store_id.Store(PlainText<64>::Of(options_.store_id));
  header_->boot_id.Store(PlainText<64>::Of(boot_id));
  header_->holder.store(holder);
  header_->seed.store(seed);
  header_->slots_max.store(slots_max_);
  header_->rates_max.store(rates_max_);
  // So that a SlotRef of another table fits none of this one. Never 0, and never used up.
  header_->next_claim.store((claim >> 1) + 1);
  header_->generation.store(1);
  header_->newest_ms.store(kNever);
  header_->ready.store(1);
  return absl::OkStatus();
}

void LeaseTable::BeforeFork() {
  commit_lock_.CloseForFork();
  table_lock_.CloseForFork();
}

void LeaseTable::AfterFork() {
  table_lock_.ResumeAfterFork();
  commit_lock_.ResumeAfterFork();
}

}  // namespace throttl::internal

// A Checksum sums up the fields of a stored record with XXH3, so that a damaged record is noticed.
//
// It finds accidents only: anyone can compute it, and it authenticates nothing.
//
// Thread safety: a value.
//
//   Checksum sum;  sum.Add(plan.id);  sum.Add(plan.version);  Store(sum.Value());
#ifndef THROTTL_SRC_BASE_CHECKSUM_H_
#define THROTTL_SRC_BASE_CHECKSUM_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace throttl::internal {

class Checksum {
 public:
  // Each field goes in with its length or presence, so that moving a byte to the next field shows.
  void Add(std::string_view text);
  void Add(std::int64_t number);
  void Add(std::optional<std::int64_t> number);

  // As the signed number that SQLite stores.
  std::int64_t Value() const;

 private:
  std::string bytes_;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_BASE_CHECKSUM_H_

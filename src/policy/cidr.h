// A Cidr is a block of IP addresses that may use a key, such as 10.0.0.0/8 or 2001:db8::/32.
//
// Thread safety: values.
//
//   absl::StatusOr<Cidr> block = Cidr::Parse("10.0.0.0/8");
//   std::optional<IpAddress> client = IpAddress::Parse("10.1.2.3");
//   if (client.has_value() && block->Contains(*client)) ...
#ifndef THROTTL_SRC_POLICY_CIDR_H_
#define THROTTL_SRC_POLICY_CIDR_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace throttl::internal {

class IpAddress {
 public:
  // Reads "a.b.c.d" or the IPv6 forms of RFC 4291. An IPv4 address in IPv6 ("::ffff:1.2.3.4"), as a
  // dual-stack socket shows it, is that IPv4 address. std::nullopt: anything else, also leading
  // zeros in IPv4, a zone ("%eth0"), brackets, a port, spaces. No allocation.
  static std::optional<IpAddress> Parse(std::string_view text);

  bool is_ipv4() const;
  // This address with every bit after the first `prefix_bits` of its 128 cleared; an IPv4 address
  // has 96 before its own. REQUIRES: 0 <= prefix_bits <= 128.
  IpAddress Masked(int prefix_bits) const;
  // The shortest form of RFC 5952.
  std::string ToString() const;

  friend bool operator==(const IpAddress&, const IpAddress&) = default;

 private:
  std::array<std::uint8_t, 16> bytes_ = {};  // network order; IPv4 as ::ffff:a.b.c.d
};

class Cidr {
 public:
  // Reads "<address>[/<bits>]"; without bits it is that one address. InvalidArgument: names the
  // text and the rule; when bits after the prefix are set, also the block that may be meant.
  static absl::StatusOr<Cidr> Parse(std::string_view text);

  // An IPv6 block never contains an IPv4 address, not even "::/0". No allocation.
  bool Contains(const IpAddress& address) const;
  std::string ToString() const;

 private:
  Cidr(const IpAddress& base, int prefix_bits) : base_(base), prefix_bits_(prefix_bits) {}

  IpAddress base_;
  int prefix_bits_;  // of the 128 of base_
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_POLICY_CIDR_H_

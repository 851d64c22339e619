#include "src/policy/cidr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "src/base/text_check.h"

namespace throttl::internal {
namespace {

using AddressBytes = std::array<std::uint8_t, 16>;

constexpr std::array<std::uint8_t, 12> kIpv4Prefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr int kIpv4PrefixBits = 96;
constexpr int kAddressBits = 128;
constexpr std::size_t kCidrBytesMax = INET6_ADDRSTRLEN - 1 + 4;  // an address and "/128"

// The bits of byte `i` that lie inside a prefix of `prefix_bits`.
std::uint8_t MaskOf(std::size_t i, int prefix_bits) {
  const int bits = std::clamp(prefix_bits - static_cast<int>(8 * i), 0, 8);
  return static_cast<std::uint8_t>(0xff00 >> bits);
}

absl::Status CidrError(std::string_view text, absl::string_view rule) {
  return absl::InvalidArgumentError(absl::StrCat("address is ", Quoted(text), ", ", rule));
}

// Decimal digits without a leading zero; std::nullopt: not a number of 0..bits_max.
std::optional<int> ParsePrefixBits(std::string_view text, int bits_max) {
  if (text.empty() || text.size() > 3 || (text.size() > 1 && text.front() == '0')) {
    return std::nullopt;
  }
  int bits = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    bits = 10 * bits + (c - '0');
  }
  if (bits > bits_max) return std::nullopt;
  return bits;
}

absl::Status CheckCidrText(std::string_view text) {
  if (text.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("address is empty, 1 to ", kCidrBytesMax, " bytes are required"));
  }
  if (text.size() > kCidrBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "address is ", text.size(), " bytes long, at most ", kCidrBytesMax, " bytes are allowed"));
  }
  if (!IsUtf8(text)) return CidrError(text, "UTF-8 is required");
  if (HasControlCharacter(text)) return CidrError(text, "control characters are not allowed");
  return absl::OkStatus();
}

}  // namespace

std::optional<IpAddress> IpAddress::Parse(std::string_view text) {
  std::array<char, INET6_ADDRSTRLEN> terminated = {};
  // inet_pton would read the part before a NUL.
  if (text.size() >= terminated.size() || text.find('\0') != std::string_view::npos) {
    return std::nullopt;
  }
  std::copy(text.begin(), text.end(), terminated.begin());
  IpAddress address;
  if (text.find(':') != std::string_view::npos) {
    if (inet_pton(AF_INET6, terminated.data(), address.bytes_.data()) != 1) return std::nullopt;
    return address;
  }
  std::copy(kIpv4Prefix.begin(), kIpv4Prefix.end(), address.bytes_.begin());
  if (inet_pton(AF_INET, terminated.data(), address.bytes_.data() + kIpv4Prefix.size()) != 1) {
    return std::nullopt;
  }
  return address;
}

bool IpAddress::is_ipv4() const {
  return std::equal(kIpv4Prefix.begin(), kIpv4Prefix.end(), bytes_.begin());
}

IpAddress IpAddress::Masked(int prefix_bits) const {
  IpAddress masked = *this;
  for (std::size_t i = 0; i < bytes_.size(); ++i) masked.bytes_[i] &= MaskOf(i, prefix_bits);
  return masked;
}

std::string IpAddress::ToString() const {
  std::array<char, INET6_ADDRSTRLEN> text = {};
  const int family = is_ipv4() ? AF_INET : AF_INET6;
  const std::uint8_t* first = bytes_.data() + (is_ipv4() ? kIpv4Prefix.size() : 0);
  inet_ntop(family, first, text.data(), static_cast<socklen_t>(text.size()));
  return text.data();
}

absl::StatusOr<Cidr> Cidr::Parse(std::string_view text) {
  if (absl::Status status = CheckCidrText(text); !status.ok()) return status;
  const std::size_t slash = text.find('/');
  const std::optional<IpAddress> address = IpAddress::Parse(text.substr(0, slash));
  if (!address.has_value()) {
    return CidrError(text, "an IPv4 or IPv6 address, alone or with \"/<bits>\", is required");
  }
  // The bits count from the start of the address as it is written.
  const bool dotted = text.substr(0, slash).find(':') == std::string_view::npos;
  const int written_bits_max = dotted ? kAddressBits - kIpv4PrefixBits : kAddressBits;
  int prefix_bits = kAddressBits;
  if (slash != std::string_view::npos) {
    const std::optional<int> bits = ParsePrefixBits(text.substr(slash + 1), written_bits_max);
    if (!bits.has_value()) {
      return CidrError(text, absl::StrCat("after '/' a number of 0 to ", written_bits_max,
                                          " without leading zeros is required"));
    }
    prefix_bits = *bits + kAddressBits - written_bits_max;
  }
  const Cidr block(address->Masked(prefix_bits), prefix_bits);
  if (block.base_ != *address) {
    return CidrError(text, absl::StrCat("no bit after the prefix may be set: ", block.ToString(),
                                        " is the block, ", address->ToString(), " the address"));
  }
  return block;
}

bool Cidr::Contains(const IpAddress& address) const {
  return base_.is_ipv4() == address.is_ipv4() && address.Masked(prefix_bits_) == base_;
}

std::string Cidr::ToString() const {
  const int bits = base_.is_ipv4() ? prefix_bits_ - kIpv4PrefixBits : prefix_bits_;
  return absl::StrCat(base_.ToString(), "/", bits);
}

}  // namespace throttl::internal

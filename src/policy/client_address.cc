#include "throttl/client_address.h"

#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "src/policy/cidr.h"

namespace throttl {
namespace {

using internal::Cidr;
using internal::IpAddress;

constexpr std::size_t kPortDigitsMax = 5;
constexpr int kIpv6GroupBits = 64;

std::string_view WithoutSpacesAround(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

bool IsPort(std::string_view text) {
  return !text.empty() && text.size() <= kPortDigitsMax &&
         text.find_first_not_of("0123456789") == std::string_view::npos;
}

// What may be the address in "address", "address:port", "[address]" or "[address]:port", where only
// IPv4 has a port without brackets; empty: it is none of them.
std::string_view WithoutPort(std::string_view text) {
  if (!text.empty() && text.front() == '[') {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos) return {};
    const std::string_view rest = text.substr(close + 1);
    if (!rest.empty() && (rest.front() != ':' || !IsPort(rest.substr(1)))) return {};
    const std::string_view address = text.substr(1, close - 1);
    return address.find(':') == std::string_view::npos ? std::string_view() : address;
  }
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos || text.find(':', colon + 1) != std::string_view::npos) {
    return text;
  }
  return IsPort(text.substr(colon + 1)) ? text.substr(0, colon) : std::string_view();
}

// The address of an entry, as a view into it; empty: it is not an address.
std::string_view AddressIn(std::string_view entry) {
  const std::string_view address = WithoutPort(entry);
  return IpAddress::Parse(address).has_value() ? address : std::string_view();
}

// Takes the last entry off `list`, with the comma before it. std::nullopt: it is too long.
std::optional<std::string_view> TakeLast(std::string_view& list) {
  std::string_view tail = list;
  if (tail.size() > kForwardedAddressBytesMax) {
    tail.remove_prefix(tail.size() - kForwardedAddressBytesMax - 1);
  }
  const std::size_t comma = tail.rfind(',');
  if (comma == std::string_view::npos && tail.size() > kForwardedAddressBytesMax) {
    return std::nullopt;
  }
  const std::size_t begin = comma == std::string_view::npos ? 0 : comma + 1;
  const std::string_view entry = tail.substr(begin);
  list.remove_suffix(entry.size() + (begin > 0 ? 1 : 0));
  return WithoutSpacesAround(entry);
}

}  // namespace

struct TrustedProxies::Blocks {
  std::vector<Cidr> cidrs;
};

TrustedProxies::TrustedProxies(std::shared_ptr<const Blocks> blocks) : blocks_(std::move(blocks)) {}

absl::StatusOr<TrustedProxies> TrustedProxies::Create(const std::vector<std::string>& cidrs) {
  if (cidrs.size() > kTrustedProxiesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "cidrs is a list of ", cidrs.size(), ", at most ", kTrustedProxiesMax, " are allowed"));
  }
  auto blocks = std::make_shared<Blocks>();
  for (std::size_t i = 0; i < cidrs.size(); ++i) {
    absl::StatusOr<Cidr> cidr = Cidr::Parse(cidrs[i]);
    if (!cidr.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("cidrs[", i, "]: ", cidr.status().message()));
    }
    blocks->cidrs.push_back(*cidr);
  }
  return TrustedProxies(std::move(blocks));
}

bool TrustedProxies::Trusts(std::string_view address) const {
  const std::optional<IpAddress> ip = IpAddress::Parse(address);
  if (!ip.has_value()) return false;
  for (const Cidr& cidr : blocks_->cidrs) {
    if (cidr.Contains(*ip)) return true;
  }
  return false;
}

std::string_view TrustedProxies::ClientAddress(std::string_view socket_address,
                                               std::string_view x_forwarded_for) const {
  std::string_view client = AddressIn(socket_address);
  if (client.empty()) return socket_address;
  if (blocks_ == nullptr) return client;
  for (int hops = 0; hops < kForwardedHopsMax && !x_forwarded_for.empty() && Trusts(client);
       ++hops) {
    const std::optional<std::string_view> entry = TakeLast(x_forwarded_for);
    if (!entry.has_value()) break;
    if (entry->empty()) continue;
    const std::string_view address = AddressIn(*entry);
    if (address.empty()) break;
    client = address;
  }
  return client;
}

std::string AddressGroup(std::string_view address) {
  const std::optional<IpAddress> ip = IpAddress::Parse(address);
  if (!ip.has_value()) return {};
  if (ip->is_ipv4()) return ip->ToString();
  return absl::StrCat(ip->Masked(kIpv6GroupBits).ToString(), "/", kIpv6GroupBits);
}

}  // namespace throttl

// Where a request comes from, when it came through proxies: the client's address, and the text to
// limit it by.
//
// Thread safety: values; all methods are const.
//
//   auto proxies = throttl::TrustedProxies::Create({"10.0.0.0/8", "2001:db8::/32"});
//   std::string_view client = proxies->ClientAddress(socket_address, x_forwarded_for);
//   engine.Validate(secret, {.address = client});
#ifndef THROTTL_CLIENT_ADDRESS_H_
#define THROTTL_CLIENT_ADDRESS_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace throttl {

inline constexpr std::size_t kTrustedProxiesMax = 1024;
inline constexpr int kForwardedHopsMax = 32;                   // read of one X-Forwarded-For
inline constexpr std::size_t kForwardedAddressBytesMax = 128;  // of one address, spaces included

// The proxies whose word on where a request comes from is taken. X-Forwarded-For is written by
// whoever sends it: only what a proxy of one's own appended to it is true.
class TrustedProxies {
 public:
  // Trusts nobody: the client is who is at the other end of the socket.
  TrustedProxies() = default;

  // `cidrs`: "10.0.0.0/8", "2001:db8::/32", or one address; at most kTrustedProxiesMax.
  // InvalidArgument: names the entry that is not one, and the rule.
  static absl::StatusOr<TrustedProxies> Create(const std::vector<std::string>& cidrs);

  // The client's address, without a port and brackets; a view into one of the arguments.
  //
  // `socket_address` is the other end of the connection: "192.0.2.1", "192.0.2.1:443", "::1",
  // "[::1]" or "[::1]:443". A host behind a Unix socket passes "127.0.0.1". `x_forwarded_for` is
  // that header; several are joined by commas, in their order.
  //
  // From the socket on, and then from the right of the header, addresses of trusted proxies are
  // passed over, and the first other one is the client's. When all are trusted it is the leftmost.
  // An entry that is not an address ("unknown", a name) ends the walk, and so do kForwardedHopsMax
  // entries and an entry of more than kForwardedAddressBytesMax bytes: the client is then the last
  // address that was read, the proxy that passed the entry on. Empty entries are passed over. So no
  // more than 4 KiB of a header are read, however long it is.
  //
  // An IPv4 address in IPv6 ("::ffff:192.0.2.1") is trusted as that IPv4 address. A socket address
  // that is not one is returned as it is, trusted by nobody. Allocates nothing.
  std::string_view ClientAddress(std::string_view socket_address,
                                 std::string_view x_forwarded_for) const;

 private:
  struct Blocks;
  explicit TrustedProxies(std::shared_ptr<const Blocks> blocks);
  bool Trusts(std::string_view address) const;

  std::shared_ptr<const Blocks> blocks_;  // nullptr: nobody; never changes, so copies share it
};

// The text to limit a client by: an IPv4 address is one client, "192.0.2.1", also when it is in
// IPv6; of an IPv6 address the first 64 bits are, "2001:db8:1:2::/64", since one client can take
// any address of them. Equal for equal addresses, however they are written. Empty, one client, for
// whatever is not an address.
std::string AddressGroup(std::string_view address);

}  // namespace throttl

#endif  // THROTTL_CLIENT_ADDRESS_H_

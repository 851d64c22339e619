#include "throttl/client_address.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include <doctest/doctest.h>
#include <rapidcheck.h>

namespace throttl {
namespace {

TrustedProxies Trusting(const std::vector<std::string>& cidrs) {
  absl::StatusOr<TrustedProxies> proxies = TrustedProxies::Create(cidrs);
  REQUIRE_MESSAGE(proxies.ok(), proxies.status().ToString());
  return *proxies;
}

std::string Client(std::string_view socket_address, std::string_view x_forwarded_for) {
  static const TrustedProxies proxies = Trusting({"10.0.0.0/8", "2001:db8::/32", "127.0.0.1"});
  return std::string(proxies.ClientAddress(socket_address, x_forwarded_for));
}

std::string Fault(const std::vector<std::string>& cidrs) {
  const absl::Status status = TrustedProxies::Create(cidrs).status();
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

TEST_CASE("by default nobody is trusted: the client is who is at the other end of the socket") {
  const TrustedProxies nobody;
  CHECK(nobody.ClientAddress("192.0.2.1:443", "198.51.100.7") == "192.0.2.1");
  CHECK(nobody.ClientAddress("10.0.0.1", "198.51.100.7") == "10.0.0.1");
  CHECK(Trusting({}).ClientAddress("10.0.0.1", "198.51.100.7") == "10.0.0.1");
}

TEST_CASE("the header of somebody who is not trusted is not read") {
  CHECK(Client("192.0.2.1", "198.51.100.7") == "192.0.2.1");
  CHECK(Client("192.0.2.1", "10.0.0.1") == "192.0.2.1");
}

TEST_CASE("trusted proxies are passed over from the right, and the first other one is the client") {
  CHECK(Client("10.0.0.1", "198.51.100.7") == "198.51.100.7");
  CHECK(Client("10.0.0.1", "198.51.100.7, 10.0.0.2") == "198.51.100.7");
  CHECK(Client("10.0.0.1", "203.0.113.9, 198.51.100.7, 10.0.0.2,10.0.0.3") == "198.51.100.7");
  CHECK(Client("2001:db8::1", "2001:4860::7, 2001:db8::2") == "2001:4860::7");
  // What a client wrote itself stands left of what the proxy appended.
  CHECK(Client("10.0.0.1", "127.0.0.1, 10.9.9.9, 198.51.100.7") == "198.51.100.7");
}

TEST_CASE("when all are trusted the leftmost is the client, and without a header the proxy is") {
  CHECK(Client("10.0.0.1", "10.0.0.3, 10.0.0.2") == "10.0.0.3");
  for (const char* const empty : {"", " ", ",", " , ,\t,"})
    CHECK(Client("10.0.0.1", empty) == "10.0.0.1");
}

TEST_CASE("an entry that is not an address ends the walk at the last address that was read") {
  for (const char* const bad :
       {"unknown", "_hidden", "client.example", "198.51.100.7:", "198.51.100.7:http",
        "198.51.100.7:123456", "198.51.100", "[198.51.100.7]", "[::1", "::1]", "[::1]x", "[::1]:",
        "[]", "[", "]", ":", "\"198.51.100.7\"", "fe80::1%eth0", "198.51.100.7 10.0.0.2"}) {
    CAPTURE(bad);
    CHECK(Client("10.0.0.1", bad) == "10.0.0.1");
    CHECK(Client("10.0.0.1", absl::StrCat("203.0.113.9, ", bad, ", 10.0.0.2")) == "10.0.0.2");
  }
}

TEST_CASE("empty entries are passed over") {
  CHECK(Client("10.0.0.1", ",198.51.100.7,, ,10.0.0.2,") == "198.51.100.7");
}

TEST_CASE("ports and brackets are taken off, of the socket's address as well") {
  CHECK(Client("10.0.0.1:443", "198.51.100.7:50123") == "198.51.100.7");
  CHECK(Client("[2001:db8::1]:443", "[2001:4860::7]:50123") == "2001:4860::7");
  CHECK(Client("[2001:db8::1]", "[2001:4860::7]") == "2001:4860::7");
  CHECK(Client("[2001:db8::1]:443", "2001:4860::7") == "2001:4860::7");
  CHECK(Client("[::1]:123", "") == "::1");
  CHECK(Client("192.0.2.1:80", "") == "192.0.2.1");
}

TEST_CASE("an IPv4 address in IPv6 is trusted as that IPv4 address") {
  CHECK(Client("::ffff:10.0.0.1", "198.51.100.7") == "198.51.100.7");
  CHECK(Client("[::ffff:10.0.0.1]:443", "198.51.100.7, ::ffff:a00:2") == "198.51.100.7");
  CHECK(Trusting({"::ffff:10.0.0.0/104"}).ClientAddress("10.0.0.1", "198.51.100.7") ==
        "198.51.100.7");
}

TEST_CASE("a socket address that is not one is returned as it is, trusted by nobody") {
  for (const char* const address : {"", "unix:", "fe80::1%eth0", "localhost", "10.0.0.1:x"}) {
    CHECK(Client(address, "198.51.100.7") == address);
    CHECK(Trusting({"0.0.0.0/0", "::/0"}).ClientAddress(address, "198.51.100.7") == address);
  }
}

TEST_CASE("the answer is a view into one of the arguments") {
  const TrustedProxies proxies = Trusting({"10.0.0.1"});
  const std::string socket_address = "10.0.0.1";
  const std::string header = "x, 198.51.100.7";
  CHECK(proxies.ClientAddress(socket_address, header).data() == header.data() + 3);
  CHECK(proxies.ClientAddress(socket_address, "").data() == socket_address.data());
}

TEST_CASE("no more than kForwardedHopsMax entries are read, empty ones included") {
  const auto hops = [](int count) {
    std::string header = "198.51.100.7";
    for (int i = 1; i < count; ++i) absl::StrAppend(&header, ",10.0.1.", i);
    return Client("10.0.0.1", header);
  };
  CHECK(hops(kForwardedHopsMax) == "198.51.100.7");
  CHECK(hops(kForwardedHopsMax + 1) == "10.0.1.1");
  const std::string commas(kForwardedHopsMax, ',');
  CHECK(Client("10.0.0.1", "198.51.100.7" + commas.substr(1)) == "198.51.100.7");
  CHECK(Client("10.0.0.1", "198.51.100.7" + commas) == "10.0.0.1");
}

TEST_CASE("an entry of more than kForwardedAddressBytesMax bytes ends the walk") {
  const std::string spaces(kForwardedAddressBytesMax - std::string_view("198.51.100.7").size(),
                           ' ');
  CHECK(Client("10.0.0.1", spaces + "198.51.100.7") == "198.51.100.7");
  CHECK(Client("10.0.0.1", "x," + spaces + "198.51.100.7") == "198.51.100.7");
  CHECK(Client("10.0.0.1", " " + spaces + "198.51.100.7") == "10.0.0.1");
  CHECK(Client("10.0.0.1", "x, " + spaces + "198.51.100.7") == "10.0.0.1");
  CHECK(Client("10.0.0.1", std::string(10'000'000, ' ')) == "10.0.0.1");
}

TEST_CASE("a list with an entry that is not a block is refused, and the message names it") {
  CHECK(Fault({"10.0.0.0/8", "10.0.0.0/33"}) ==
        "cidrs[1]: address is \"10.0.0.0/33\", after '/' a number of 0 to 32 without leading zeros "
        "is required");
  CHECK(Fault({"proxy.example"}) ==
        "cidrs[0]: address is \"proxy.example\", an IPv4 or IPv6 address, alone or with "
        "\"/<bits>\", is required");
  CHECK(Fault({"10.1.2.3/8"}).find("10.0.0.0/8 is the block") != std::string::npos);
  const std::vector<std::string> most(kTrustedProxiesMax, "10.0.0.1");
  CHECK(TrustedProxies::Create(most).ok());
  std::vector<std::string> more = most;
  more.push_back("10.0.0.1");
  CHECK(Fault(more) == "cidrs is a list of 1025, at most 1024 are allowed");
}

TEST_CASE("an IPv4 address is one client, also in IPv6; of an IPv6 address the first 64 bits are") {
  CHECK(AddressGroup("192.0.2.1") == "192.0.2.1");
  CHECK(AddressGroup("::ffff:192.0.2.1") == "192.0.2.1");
  CHECK(AddressGroup("::FFFF:c000:201") == "192.0.2.1");
  CHECK(AddressGroup("2001:db8:1:2:3:4:5:6") == "2001:db8:1:2::/64");
  CHECK(AddressGroup("2001:DB8:1:2:ffff:ffff:ffff:ffff") == "2001:db8:1:2::/64");
  CHECK(AddressGroup("2001:db8:1:3::") == "2001:db8:1:3::/64");
  CHECK(AddressGroup("::1") == "::/64");
  for (const char* const text : {"", "unknown", "192.0.2.1:80", "[::1]", "192.0.2.0/24"}) {
    CHECK(AddressGroup(text).empty());
  }
}

// The header's words, over addresses as the numbers of a row: below `trusted` a proxy's.
TEST_CASE("the client is never an address left of one that is not trusted") {
  CHECK(rc::check([] {
    const auto row = *rc::gen::container<std::vector<int>>(rc::gen::inRange(-1, 8));
    const auto text = [](int number) {
      if (number < 0) return std::string("unknown");
      return absl::StrCat(number < 6 ? "10.0.0." : "198.51.100.", number);
    };
    std::vector<std::string> entries;
    for (const int number : row) entries.push_back(text(number));
    std::string expected = "10.0.0.9";
    for (auto entry = entries.rbegin();
         entry != entries.rend() && entry - entries.rbegin() < kForwardedHopsMax; ++entry) {
      if (*entry == "unknown") break;
      expected = *entry;
      if (entry->front() == '1' && (*entry)[1] == '9') break;
    }
    RC_ASSERT(Client("10.0.0.9", absl::StrJoin(entries, ", ")) == expected);
  }));
}

TEST_CASE("any bytes give a view into an argument") {
  CHECK(rc::check([](const std::string& socket_address, const std::string& header) {
    const std::string alphabet = "1.:[],f \t";
    std::string near = header;
    for (char& c : near) c = alphabet[static_cast<unsigned char>(c) % alphabet.size()];
    for (const std::string& forwarded : {header, near}) {
      const std::string client = Client("10.0.0.1", forwarded);
      RC_ASSERT(client == "10.0.0.1" || forwarded.find(client) != std::string::npos);
      RC_ASSERT(socket_address.find(Client(socket_address, forwarded)) != std::string::npos);
    }
  }));
}

}  // namespace
}  // namespace throttl

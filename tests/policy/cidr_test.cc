#include "src/policy/cidr.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>
#include <rapidcheck.h>

namespace throttl::internal {
namespace {

bool Contains(std::string_view block, std::string_view address) {
  const absl::StatusOr<Cidr> cidr = Cidr::Parse(block);
  REQUIRE_MESSAGE(cidr.ok(), cidr.status().ToString());
  const std::optional<IpAddress> ip = IpAddress::Parse(address);
  REQUIRE(ip.has_value());
  return cidr->Contains(*ip);
}

std::string Fault(std::string_view block) {
  const absl::Status status = Cidr::Parse(block).status();
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

TEST_CASE("a block contains its first and last address and not their neighbours") {
  CHECK(Contains("10.0.0.0/8", "10.0.0.0"));
  CHECK(Contains("10.0.0.0/8", "10.255.255.255"));
  CHECK(!Contains("10.0.0.0/8", "9.255.255.255"));
  CHECK(!Contains("10.0.0.0/8", "11.0.0.0"));
  CHECK(Contains("192.0.2.128/25", "192.0.2.128"));
  CHECK(!Contains("192.0.2.128/25", "192.0.2.127"));
  CHECK(Contains("203.0.113.7", "203.0.113.7"));
  CHECK(!Contains("203.0.113.7", "203.0.113.6"));
  CHECK(!Contains("203.0.113.7/32", "203.0.113.6"));
  CHECK(Contains("2001:db8::/33", "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff"));
  CHECK(!Contains("2001:db8::/33", "2001:db8:8000::"));
  CHECK(Contains("2001:db8::1", "2001:DB8:0:0:0:0:0:1"));
  CHECK(!Contains("2001:db8::1/128", "2001:db8::2"));
}

TEST_CASE("an IPv4 address in IPv6 is that IPv4 address") {
  CHECK(IpAddress::Parse("::ffff:10.1.2.3") == IpAddress::Parse("10.1.2.3"));
  CHECK(IpAddress::Parse("::ffff:a01:203") == IpAddress::Parse("10.1.2.3"));
  CHECK(IpAddress::Parse("::ffff:10.1.2.3")->ToString() == "10.1.2.3");
  CHECK(Contains("10.0.0.0/8", "::ffff:10.1.2.3"));
  CHECK(Contains("::ffff:10.0.0.0/104", "10.1.2.3"));
  CHECK(!Contains("::ffff:10.0.0.0/104", "11.1.2.3"));
  CHECK(Cidr::Parse("::ffff:10.0.0.0/104")->ToString() == "10.0.0.0/8");
}

TEST_CASE("an IPv6 block never contains an IPv4 address, nor the other way round") {
  CHECK(Contains("0.0.0.0/0", "255.255.255.255"));
  CHECK(!Contains("0.0.0.0/0", "::1"));
  CHECK(Contains("::/0", "::1"));
  CHECK(!Contains("::/0", "10.1.2.3"));
  CHECK(!Contains("::/0", "::ffff:10.1.2.3"));
  CHECK(!Contains("::/96", "10.1.2.3"));
}

TEST_CASE("an address that is not one is refused") {
  using namespace std::string_view_literals;
  for (const std::string_view text :
       {""sv,           "10"sv,          "10.0.0"sv,     "10.0.0.0.0"sv,        "10.0.0.256"sv,
        "010.0.0.1"sv,  "10.0.0.01"sv,   "0x0a.0.0.1"sv, " 10.0.0.1"sv,         "10.0.0.1 "sv,
        "10.0.0.1\0"sv, "10.0.0.1:80"sv, "[::1]"sv,      "fe80::1%eth0"sv,      ":::"sv,
        "1::2::3"sv,    "12345::"sv,     "::g"sv,        "1:2:3:4:5:6:7:8:9"sv, "10.0.0.0/8"sv,
        "-1.0.0.0"sv,   "+1.0.0.0"sv}) {
    CAPTURE(std::string(text));
    CHECK(!IpAddress::Parse(text).has_value());
  }
  // The longest address has 45 bytes.
  const std::string longest = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255";
  CHECK(IpAddress::Parse(longest).has_value());
  for (const std::size_t more : std::vector<std::size_t>{1, 2, 100, 1'000'000}) {
    CHECK(!IpAddress::Parse(std::string(more, '0') + longest).has_value());
  }
}

TEST_CASE("a block that is not one is refused, and the message names it and the rule") {
  using namespace std::string_view_literals;
  const std::string form = "an IPv4 or IPv6 address, alone or with \"/<bits>\", is required";
  const std::string bits32 = "after '/' a number of 0 to 32 without leading zeros is required";
  const std::string bits128 = "after '/' a number of 0 to 128 without leading zeros is required";
  const std::vector<std::pair<std::string, std::string>> faults = {
      {"localhost", form},         {"/8", form},
      {"10.0.0/8", form},          {"010.0.0.0/8", form},
      {"[2001:db8::]/32", form},   {"fe80::%eth0/64", form},
      {"10.0.0.0/", bits32},       {"10.0.0.0/33", bits32},
      {"10.0.0.0/08", bits32},     {"10.0.0.0/-1", bits32},
      {"10.0.0.0/+8", bits32},     {"10.0.0.0/8 ", bits32},
      {"10.0.0.0/8/8", bits32},    {"10.0.0.0/4294967304", bits32},
      {"2001:db8::/129", bits128}, {"2001:db8::/032", bits128}};
  for (const auto& fault : faults) {
    CHECK(Fault(fault.first) == "address is \"" + fault.first + "\", " + fault.second);
  }
  CHECK(Fault("") == "address is empty, 1 to 49 bytes are required");
  CHECK(Fault(std::string(50, '1')) == "address is 50 bytes long, at most 49 bytes are allowed");
  CHECK(Fault("10.0.0.0\0/8"sv) ==
        "address is \"10.0.0.0\\x00/8\", control characters are not allowed");
  CHECK(Fault("10.0.0.0\xff") == "address is \"10.0.0.0\\xff\", UTF-8 is required");
}

TEST_CASE("bits after the prefix are refused, and the message gives the block that may be meant") {
  CHECK(Fault("10.1.2.3/8") ==
        "address is \"10.1.2.3/8\", no bit after the prefix may be set: 10.0.0.0/8 is the block, "
        "10.1.2.3 the address");
  CHECK(Fault("2001:db8::1/32") ==
        "address is \"2001:db8::1/32\", no bit after the prefix may be set: 2001:db8::/32 is the "
        "block, 2001:db8::1 the address");
  CHECK(Fault("::ffff:10.0.0.0/90").find("no bit after the prefix may be set") !=
        std::string::npos);
}

TEST_CASE("an IPv4 block contains exactly the addresses whose first bits are its own") {
  CHECK(rc::check([] {
    const auto show = [](std::uint32_t ip) {
      return absl::StrCat(ip >> 24, ".", (ip >> 16) & 255, ".", (ip >> 8) & 255, ".", ip & 255);
    };
    const auto bits = *rc::gen::inRange(0, 33);
    const auto base = *rc::gen::arbitrary<std::uint32_t>();
    // One bit is turned, so that both answers are common.
    const auto turned = *rc::gen::inRange(0, 32);
    const std::uint32_t mask =
        bits == 0 ? 0 : static_cast<std::uint32_t>(0xffffffffULL << (32 - bits));
    const std::string block = absl::StrCat(show(base & mask), "/", bits);
    const std::uint32_t other = base ^ (std::uint32_t{1} << turned);
    RC_ASSERT(Contains(block, show(base)));
    RC_ASSERT(Contains(block, show(other)) == ((other & mask) == (base & mask)));
    RC_ASSERT(Cidr::Parse(block)->ToString() == block);
  }));
}

}  // namespace
}  // namespace throttl::internal

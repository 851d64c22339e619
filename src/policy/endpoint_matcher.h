// An EndpointMatcher tells which of its patterns match a request.
//
// The patterns are compiled into a tree of segments, in which literals are looked up by hash: what
// a request costs depends on its segments and on the patterns that share their beginning with it,
// hardly on how many patterns there are. The most, whatever the patterns and the endpoint, is one
// look-up for each segment of each pattern.
//
// Thread safety: immutable; all methods are safe for concurrent use.
//
//   THROTTL_ASSIGN_OR_RETURN(const EndpointMatcher matcher, EndpointMatcher::Create(patterns));
//   std::uint64_t matched = matcher.Match({.method = "GET", .endpoint = "/v1/search"});
#ifndef THROTTL_SRC_POLICY_ENDPOINT_MATCHER_H_
#define THROTTL_SRC_POLICY_ENDPOINT_MATCHER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "src/policy/endpoint_pattern.h"

namespace throttl::internal {

inline constexpr std::size_t kEndpointPatternsMax = 4096;

struct EndpointRequest {
  std::string_view method = {};    // "GET"; compared as it is
  std::string_view endpoint = {};  // any bytes, of any length
};

class EndpointMatcher {
 public:
  // Without patterns, matches nothing.
  EndpointMatcher() = default;

  // Pattern i of `patterns` is bit i of what matches. The same pattern may be there twice.
  // InvalidArgument: more than kEndpointPatternsMax of them, or one that CheckEndpointPattern
  // refuses.
  static absl::StatusOr<EndpointMatcher> Create(std::span<const std::string_view> patterns);

  std::size_t size() const { return size_; }
  // 64-bit words that hold a bit for each pattern.
  std::size_t words() const { return (size_ + 63) / 64; }
  // What it takes: at most 1 KiB, and 100 bytes for each pattern and each byte of one.
  std::size_t memory_bytes() const;

  // Bit i % 64 of word i / 64 is set if pattern i matches, and cleared if not. What lies beyond
  // words() in `matched` is left alone. Allocates nothing, reads at most 1,025 bytes of the
  // endpoint.
  //
  // REQUIRES: matched.size() >= words().
  void Match(const EndpointRequest& request, std::span<std::uint64_t> matched) const;

  // The same for few patterns: bit i is pattern i.
  //
  // REQUIRES: size() <= 64.
  std::uint64_t Match(const EndpointRequest& request) const;

 private:
  friend class EndpointCompiler;

  static constexpr std::uint32_t kNone = 0xffffffff;
  static constexpr std::uint32_t kRoot = 0;
  // What methods hang on, as literals do on nodes, but for the first ones, since there are few.
  static constexpr std::uint32_t kMethods = kNone - 1;
  static constexpr std::size_t kFirstMethods = 8;

  // A text that is compared by words: one of up to 16 bytes is its first and last 8 (which overlap,
  // or are padded with zeros), a longer one has a hash in `last`, and is compared in full too.
  struct TextKey {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    std::uint32_t size = 0;  // bytes; 0: none

    friend bool operator==(const TextKey&, const TextKey&) = default;
  };
  static TextKey KeyOf(std::string_view text);

  // From `parent` to `child` by a literal. A table with open addressing, at most half full.
  struct Edge {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    std::uint32_t size = 0;  // 0: no edge
    std::uint32_t parent = 0;
    std::uint32_t text = 0;  // where it begins in texts_; only of more than 16 bytes
    std::uint32_t child = 0;
  };
  // Where a pattern leads to, among those of the same node.
  struct Hit {
    std::uint64_t mask = 0;
    std::uint32_t word = 0;
    std::uint32_t method = 0;  // kNone: any
  };
  struct HitRange {
    std::uint32_t begin = 0;
    std::uint32_t end = 0;
  };
  struct Node {
    std::uint32_t star = kNone;       // the child by '*'
    std::uint32_t literal_count = 0;  // children by literals
    HitRange ends = {};               // of patterns that end here
    HitRange rests = {};              // of those that go on with "/**"
  };

  static std::size_t PlaceOf(std::uint32_t parent, const TextKey& key);
  std::uint32_t FindChild(std::uint32_t parent, std::string_view text) const;
  // 0: no pattern has it.
  std::uint32_t NumberOf(std::string_view method) const;
  void Add(const HitRange& hits, std::uint32_t method, std::uint64_t* matched) const;
  void MatchInto(const EndpointRequest& request, std::uint64_t* matched) const;
  void Walk(const NormalEndpoint& endpoint, std::uint32_t method, std::uint64_t* matched) const;

  std::size_t size_ = 0;
  HitRange always_ = {};                // of empty patterns
  std::vector<TextKey> first_methods_;  // their numbers are 1, 2, ...
  bool has_more_methods_ = false;
  std::vector<Node> nodes_;
  std::vector<Edge> edges_;
  std::vector<Hit> hits_;
  std::string texts_;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_POLICY_ENDPOINT_MATCHER_H_

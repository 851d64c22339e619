#include "src/policy/endpoint_matcher.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstring>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"

#include "src/base/fast_hash.h"

namespace throttl::internal {
namespace {

constexpr std::size_t kKeyBytes = 8;
constexpr std::size_t kWordsBytesMax = 2 * kKeyBytes;  // of a text that its words tell completely
constexpr std::size_t kEdgesMin = 8;
// A path of kEndpointBytesMax bytes has at most this many segments.
constexpr std::size_t kSegmentsMax = kEndpointBytesMax / 2;

template <typename Word>
std::uint64_t Load(const char* from) {
  Word word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

std::string_view SegmentAt(const NormalEndpoint& endpoint, std::size_t number) {
  const std::size_t begin = endpoint.slashes[number] + std::size_t{1};
  const bool last = number + 1 == endpoint.slashes.size();
  const std::size_t end = last ? endpoint.path.size() : endpoint.slashes[number + 1];
  return {endpoint.path.data() + begin, end - begin};
}

}  // namespace

inline EndpointMatcher::TextKey EndpointMatcher::KeyOf(std::string_view text) {
  const char* const data = text.data();
  const std::size_t size = text.size();
  TextKey key{.size = static_cast<std::uint32_t>(size)};
  if (size >= kKeyBytes) {
    key.first = Load<std::uint64_t>(data);
    key.last =
        size <= kWordsBytesMax ? Load<std::uint64_t>(data + size - kKeyBytes) : FastHash(0, text);
  } else if (size >= 4) {
    key.first = Load<std::uint32_t>(data) | Load<std::uint32_t>(data + size - 4) << 32;
  } else if (size > 0) {
    key.first = Load<std::uint8_t>(data) | Load<std::uint8_t>(data + size / 2) << 8 |
                Load<std::uint8_t>(data + size - 1) << 16;
  }
  return key;
}

// Multiplication by odd constants (of XXH64); the upper bits are the good ones. The parent, which
// is known last, comes in last.
inline std::size_t EndpointMatcher::PlaceOf(std::uint32_t parent, const TextKey& key) {
  const std::uint64_t first = (key.first ^ key.size) * 0x9e3779b185ebca87;
  const std::uint64_t last = key.last * 0xc2b2ae3d27d4eb4f;
  const std::uint64_t text = (std::rotl(first, 32) ^ last) * 0x165667b19e3779f9;
  return (text + parent * 0x85ebca77c2b2ae63) >> 32;
}

inline std::uint32_t EndpointMatcher::FindChild(std::uint32_t parent, std::string_view text) const {
  const TextKey key = KeyOf(text);
  const std::size_t mask = edges_.size() - 1;
  for (std::size_t place = PlaceOf(parent, key) & mask;; place = (place + 1) & mask) {
    const Edge& edge = edges_[place];
    if (edge.size == 0) return kNone;
    if (edge.first != key.first || edge.last != key.last || edge.size != key.size ||
        edge.parent != parent) {
      continue;
    }
    if (key.size <= kWordsBytesMax) return edge.child;
    if (std::memcmp(texts_.data() + edge.text, text.data(), text.size()) == 0) return edge.child;
  }
}

inline std::uint32_t EndpointMatcher::NumberOf(std::string_view method) const {
  if (first_methods_.empty() || method.empty() || method.size() > kMethodBytesMax) return 0;
  const TextKey key = KeyOf(method);
  for (std::size_t i = 0; i < first_methods_.size(); ++i) {
    if (first_methods_[i] == key) return static_cast<std::uint32_t>(i + 1);
  }
  if (!has_more_methods_) return 0;
  const std::uint32_t found = FindChild(kMethods, method);
  return found == kNone ? 0 : found;
}

inline void EndpointMatcher::Add(const HitRange& hits, std::uint32_t method,
                                 std::uint64_t* matched) const {
  for (std::uint32_t i = hits.begin; i != hits.end; ++i) {
    const Hit& hit = hits_[i];
    if (hit.method == kNone || hit.method == method) matched[hit.word] |= hit.mask;
  }
}

void EndpointMatcher::Walk(const NormalEndpoint& endpoint, std::uint32_t method,
                           std::uint64_t* matched) const {
  struct Branch {
    std::uint32_t node;
    std::uint32_t depth;  // segments before it
  };
  // Below a node with both kinds of children the one by '*' waits. Of those that wait each is
  // deeper than the one before it.
  std::array<Branch, kSegmentsMax> waiting;  // 4 KiB that are not cleared
  std::size_t waiting_count = 0;
  const std::size_t depth_end = endpoint.slashes.size();
  std::size_t depth = 0;
  std::uint32_t place = kRoot;
  while (true) {
    const Node& node = nodes_[place];
    Add(node.rests, method, matched);
    std::uint32_t next = kNone;
    if (depth == depth_end) {
      Add(node.ends, method, matched);
    } else {
      if (node.literal_count != 0) next = FindChild(place, SegmentAt(endpoint, depth));
      ++depth;
      if (next == kNone) {
        next = node.star;
      } else if (node.star != kNone) {
        waiting[waiting_count++] = {node.star, static_cast<std::uint32_t>(depth)};
      }
    }
    if (next == kNone) {
      if (waiting_count == 0) return;
      const Branch& branch = waiting[--waiting_count];
      next = branch.node;
      depth = branch.depth;
    }
    place = next;
  }
}

void EndpointMatcher::MatchInto(const EndpointRequest& request, std::uint64_t* matched) const {
  Add(always_, kNone, matched);
  EndpointBuffer buffer;
  const NormalEndpoint endpoint = NormalizeEndpoint(request.endpoint, buffer);
  if (endpoint.kind == EndpointKind::kEmpty) return;
  const std::uint32_t method = NumberOf(request.method);
  if (endpoint.kind == EndpointKind::kIrregular) {
    Add(nodes_[kRoot].rests, method, matched);
  } else {
    Walk(endpoint, method, matched);
  }
}

void EndpointMatcher::Match(const EndpointRequest& request,
                            std::span<std::uint64_t> matched) const {
  assert(matched.size() >= words());
  std::fill_n(matched.begin(), words(), 0);
  if (size_ != 0) MatchInto(request, matched.data());
}

std::uint64_t EndpointMatcher::Match(const EndpointRequest& request) const {
  assert(size_ <= 64);
  std::uint64_t matched = 0;
  if (size_ != 0) MatchInto(request, &matched);
  return matched;
}

std::size_t EndpointMatcher::memory_bytes() const {
  return sizeof *this + first_methods_.capacity() * sizeof(TextKey) +
         nodes_.capacity() * sizeof(Node) + edges_.capacity() * sizeof(Edge) +
         hits_.capacity() * sizeof(Hit) + texts_.capacity();
}

// Builds the tree with maps, and then packs it.
class EndpointCompiler {
 public:
  EndpointCompiler() { AddNode(); }

  // REQUIRES: CheckEndpointPattern(pattern).ok().
  void Add(std::string_view pattern) {
    const auto number = static_cast<std::uint32_t>(matcher_.size_++);
    if (pattern.empty()) return always_.push_back({number, EndpointMatcher::kNone});
    const std::size_t path_begin = pattern.find('/');
    Target target{number, EndpointMatcher::kNone};
    if (path_begin != 0) target.method = MethodOf(pattern.substr(0, path_begin - 1));
    EndpointBuffer buffer;
    const NormalEndpoint path = NormalizeEndpoint(pattern.substr(path_begin), buffer);
    std::uint32_t node = EndpointMatcher::kRoot;
    for (std::size_t i = 0; i < path.slashes.size(); ++i) {
      const std::string_view segment = SegmentAt(path, i);
      if (segment == "**") return rests_[node].push_back(target);
      node = segment == "*" ? StarOf(node) : ChildOf(node, segment);
    }
    ends_[node].push_back(target);
  }

  EndpointMatcher Finish() {
    matcher_.always_ = Pack(always_);
    for (std::size_t i = 0; i < matcher_.nodes_.size(); ++i) {
      matcher_.nodes_[i].ends = Pack(ends_[i]);
      matcher_.nodes_[i].rests = Pack(rests_[i]);
    }
    matcher_.edges_.resize(std::bit_ceil(std::max(kEdgesMin, 2 * children_.size())));
    for (const auto& child : children_) AddEdge(child.first, child.second);
    matcher_.first_methods_.shrink_to_fit();
    matcher_.nodes_.shrink_to_fit();
    matcher_.hits_.shrink_to_fit();
    matcher_.texts_.shrink_to_fit();
    return std::move(matcher_);
  }

 private:
  struct Target {
    std::uint32_t pattern;
    std::uint32_t method;  // kNone: any
  };
  using Place = std::pair<std::uint32_t, std::string>;  // the text below a parent

  std::uint32_t AddNode() {
    matcher_.nodes_.emplace_back();
    ends_.emplace_back();
    rests_.emplace_back();
    return static_cast<std::uint32_t>(matcher_.nodes_.size() - 1);
  }

  std::uint32_t MethodOf(std::string_view method) {
    const auto number = static_cast<std::uint32_t>(methods_.size() + 1);
    const auto added = methods_.try_emplace(std::string(method), number);
    if (!added.second) return added.first->second;
    if (number <= EndpointMatcher::kFirstMethods) {
      matcher_.first_methods_.push_back(EndpointMatcher::KeyOf(method));
    } else {
      matcher_.has_more_methods_ = true;
      children_.emplace(Place(EndpointMatcher::kMethods, method), number);
    }
    return number;
  }

  std::uint32_t StarOf(std::uint32_t parent) {
    if (matcher_.nodes_[parent].star == EndpointMatcher::kNone) {
      const std::uint32_t child = AddNode();
      matcher_.nodes_[parent].star = child;
    }
    return matcher_.nodes_[parent].star;
  }

  std::uint32_t ChildOf(std::uint32_t parent, std::string_view text) {
    Place place(parent, text);
    const auto found = children_.find(place);
    if (found != children_.end()) return found->second;
    const std::uint32_t child = AddNode();
    ++matcher_.nodes_[parent].literal_count;
    children_.emplace(std::move(place), child);
    return child;
  }

  EndpointMatcher::HitRange Pack(const std::vector<Target>& targets) {
    std::vector<EndpointMatcher::Hit>& hits = matcher_.hits_;
    const auto begin = static_cast<std::uint32_t>(hits.size());
    for (const Target& target : targets) {
      const std::uint32_t word = target.pattern / 64;
      const std::uint64_t mask = std::uint64_t{1} << (target.pattern % 64);
      const bool same =
          hits.size() > begin && hits.back().word == word && hits.back().method == target.method;
      if (same) {
        hits.back().mask |= mask;
      } else {
        hits.push_back({.mask = mask, .word = word, .method = target.method});
      }
    }
    return {.begin = begin, .end = static_cast<std::uint32_t>(hits.size())};
  }

  void AddEdge(const Place& from, std::uint32_t child) {
    const EndpointMatcher::TextKey key = EndpointMatcher::KeyOf(from.second);
    const std::size_t mask = matcher_.edges_.size() - 1;
    std::size_t place = EndpointMatcher::PlaceOf(from.first, key) & mask;
    while (matcher_.edges_[place].size != 0) place = (place + 1) & mask;
    matcher_.edges_[place] = {.first = key.first,
                              .last = key.last,
                              .size = key.size,
                              .parent = from.first,
                              .text = static_cast<std::uint32_t>(matcher_.texts_.size()),
                              .child = child};
    if (key.size > kWordsBytesMax) matcher_.texts_.append(from.second);
  }

  EndpointMatcher matcher_;
  std::vector<Target> always_;
  // Of each node.
  std::vector<std::vector<Target>> ends_;
  std::vector<std::vector<Target>> rests_;
  std::map<Place, std::uint32_t> children_;
  std::map<std::string, std::uint32_t> methods_;
};

absl::StatusOr<EndpointMatcher> EndpointMatcher::Create(
    std::span<const std::string_view> patterns) {
  if (patterns.size() > kEndpointPatternsMax) {
    return absl::InvalidArgumentError(absl::StrCat("endpoints are ", patterns.size(),
                                                   " patterns, at most ", kEndpointPatternsMax,
                                                   " are allowed"));
  }
  EndpointCompiler compiler;
  for (const std::string_view pattern : patterns) {
    if (absl::Status status = CheckEndpointPattern(pattern); !status.ok()) return status;
    compiler.Add(pattern);
  }
  return compiler.Finish();
}

}  // namespace throttl::internal

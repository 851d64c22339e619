#include "src/policy/endpoint_pattern.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"

#include "src/base/absl_string.h"
#include "src/base/text_check.h"

namespace throttl::internal {
namespace {

// --- The normal form

constexpr bool IsControl(std::uint8_t byte) { return byte < 0x20 || byte == 0x7f; }

// Eight bytes of a path at once, the first one lowest. What is found has its bit 7 set.
static_assert(std::endian::native == std::endian::little);
constexpr std::size_t kBlockBytes = 8;
constexpr std::uint64_t kOnes = 0x0101010101010101;
constexpr std::uint64_t kTops = 0x80 * kOnes;

// Bytes below `bound`, which is at most 0x80. Above one that is found, others may be too.
constexpr std::uint64_t FindBelow(std::uint64_t block, std::uint64_t bound) {
  return (block - bound * kOnes) & ~block & kTops;
}

// The block at `begin`; behind the end of `path` with bytes that mean nothing.
std::uint64_t BlockAt(std::string_view path, std::size_t begin) {
  constexpr std::uint64_t kNothing = 'a' * kOnes;
  std::uint64_t block = kNothing;
  const std::size_t left = path.size() - begin;
  if (left >= kBlockBytes) {
    std::memcpy(&block, path.data() + begin, kBlockBytes);
  } else if (path.size() >= kBlockBytes) {
    // The last eight bytes, less those that were in the block before.
    std::memcpy(&block, path.data() + path.size() - kBlockBytes, kBlockBytes);
    block = block >> (8 * (kBlockBytes - left)) | kNothing << (8 * left);
  } else {
    std::memcpy(&block, path.data(), left);
  }
  return block;
}

// Writes down the slashes of a path that is in normal form already, and gives their number. Where
// that is not certain it gives up, with kNotSplit: for some that are (with "/.a", "%2F" or any byte
// below '-'), and for all that are not.
//
// REQUIRES: `path` begins with '/' and has at most kEndpointBytesMax bytes.
constexpr std::size_t kNotSplit = SIZE_MAX;

// A slash at the end is left out of a normal form, but for the root's.
std::size_t CountOf(std::string_view path, std::size_t slashes) {
  if (path.back() != '/') return slashes;
  return path.size() == 1 ? 0 : kNotSplit;
}

std::size_t SplitByWords(std::string_view path, EndpointBuffer& buffer) {
  std::size_t count = 0;
  std::uint64_t slash_before = 0;
  for (std::size_t begin = 0; begin < path.size(); begin += kBlockBytes) {
    const std::uint64_t block = BlockAt(path, begin);
    // '.' and '/' differ in bit 0, '?' and 0x7f in bit 6. Of the former nothing else is found: with
    // bit 0 set everywhere, no byte differs from '/' by just 1, as a false find would.
    const std::uint64_t dots_and_slashes = FindBelow((block | kOnes) ^ ('/' * kOnes), 1);
    std::uint64_t slashes = dots_and_slashes & (block << 7);
    const std::uint64_t after_slash = slashes << 8 | slash_before;
    const std::uint64_t special = FindBelow(block, '-') |
                                  FindBelow((block | 0x40 * kOnes) ^ (0x7f * kOnes), 1) |
                                  (after_slash & dots_and_slashes);
    if (special != 0) return kNotSplit;
    slash_before = slashes >> 56;
    for (; slashes != 0; slashes &= slashes - 1) {
      buffer.slashes[count++] = static_cast<std::uint16_t>(
          begin + static_cast<std::size_t>(std::countr_zero(slashes)) / 8);
    }
  }
  return CountOf(path, count);
}

#ifdef __SSE2__
// The same for at least 16 bytes, so many at once; a bit of the masks for each.
constexpr std::size_t kVectorBytes = sizeof(__m128i);
std::size_t SplitByVectors(std::string_view path, EndpointBuffer& buffer) {
  const auto bits = [](__m128i found) {
    return static_cast<std::uint32_t>(_mm_movemask_epi8(found));
  };
  std::size_t count = 0;
  std::uint32_t slash_before = 0;
  for (std::size_t begin = 0; begin < path.size(); begin += kVectorBytes) {
    // The last 16 bytes, less those that were looked at before.
    const std::size_t from = std::min(begin, path.size() - kVectorBytes);
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(path.data() + from));
    const __m128i slash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('/'));
    const __m128i dot = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('.'));
    const __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8('-' - 1)), bytes);
    // '?' and 0x7f, which differ in bit 6.
    const __m128i high =
        _mm_cmpeq_epi8(_mm_or_si128(bytes, _mm_set1_epi8(0x40)), _mm_set1_epi8(0x7f));
    const auto done = static_cast<std::uint32_t>(begin - from);
    std::uint32_t slashes = bits(slash) >> done;
    const std::uint32_t after_slash = slashes << 1 | slash_before;
    const std::uint32_t special = (bits(_mm_or_si128(low, high)) >> done) |
                                  (after_slash & (bits(_mm_or_si128(slash, dot)) >> done));
    if (special != 0) return kNotSplit;
    slash_before = slashes >> (kVectorBytes - 1);
    for (; slashes != 0; slashes &= slashes - 1) {
      buffer.slashes[count++] =
          static_cast<std::uint16_t>(begin + static_cast<std::size_t>(std::countr_zero(slashes)));
    }
  }
  return CountOf(path, count);
}

std::size_t SplitNormal(std::string_view path, EndpointBuffer& buffer) {
  return path.size() < kVectorBytes ? SplitByWords(path, buffer) : SplitByVectors(path, buffer);
}
#else
std::size_t SplitNormal(std::string_view path, EndpointBuffer& buffer) {
  return SplitByWords(path, buffer);
}
#endif

std::optional<std::uint8_t> DigitOf(char c) {
  if (c >= '0' && c <= '9') return static_cast<std::uint8_t>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<std::uint8_t>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<std::uint8_t>(c - 'A' + 10);
  return std::nullopt;
}

// The byte that "%hh" at the beginning of `text` stands for.
std::optional<std::uint8_t> EncodedByte(std::string_view text) {
  if (text[0] != '%' || text.size() < 3) return std::nullopt;
  const std::optional<std::uint8_t> high = DigitOf(text[1]);
  const std::optional<std::uint8_t> low = DigitOf(text[2]);
  if (!high.has_value() || !low.has_value()) return std::nullopt;
  return static_cast<std::uint8_t>(*high << 4 | *low);
}

// RFC 3986, section 2.2, and '%': decoded, they would mean something else.
bool StaysEncoded(std::uint8_t byte) {
  return std::string_view("%:/?#[]@!$&'()*+,;=").find(static_cast<char>(byte)) !=
         std::string_view::npos;
}

char UpperDigit(char c) { return c >= 'a' && c <= 'f' ? static_cast<char>(c - 'a' + 'A') : c; }

// Appends the character that `text` begins with in normal form, and takes it from the text.
// False: it is a control character.
bool AppendNormal(std::string_view& text, EndpointBuffer& buffer, std::size_t& size) {
  const std::optional<std::uint8_t> encoded = EncodedByte(text);
  const auto byte = encoded.value_or(static_cast<std::uint8_t>(text[0]));
  if (IsControl(byte)) return false;
  if (!encoded.has_value() || !StaysEncoded(byte)) {
    buffer.bytes[size++] = static_cast<char>(byte);
  } else {
    buffer.bytes[size++] = '%';
    buffer.bytes[size++] = UpperDigit(text[1]);
    buffer.bytes[size++] = UpperDigit(text[2]);
  }
  text.remove_prefix(encoded.has_value() ? 3 : 1);
  return true;
}

// REQUIRES: as SplitNormal, and no '?' or '#'.
NormalEndpoint NormalizePath(std::string_view path, EndpointBuffer& buffer) {
  std::size_t size = 0;
  std::size_t count = 0;
  while (!path.empty()) {
    const std::size_t slash = size;
    buffer.bytes[size++] = '/';
    path.remove_prefix(1);
    while (!path.empty() && path[0] != '/') {
      if (!AppendNormal(path, buffer, size)) return {.kind = EndpointKind::kIrregular};
    }
    const std::string_view segment(buffer.bytes.data() + slash + 1, size - slash - 1);
    if (segment == "..") return {.kind = EndpointKind::kIrregular};
    if (segment.empty() || segment == ".") {
      size = slash;
    } else {
      buffer.slashes[count++] = static_cast<std::uint16_t>(slash);
    }
  }
  if (size == 0) buffer.bytes[size++] = '/';
  return {.kind = EndpointKind::kRegular,
          .path = {buffer.bytes.data(), size},
          .slashes = {buffer.slashes.data(), count}};
}

// --- Patterns

// Each Find returns the rule that is broken, or an empty text.

std::string FindTextFault(std::string_view pattern) {
  if (pattern.size() > kEndpointPatternBytesMax) {
    return absl::StrCat(pattern.size(), " bytes long, at most ", kEndpointPatternBytesMax,
                        " bytes are allowed");
  }
  if (!IsUtf8(pattern)) return "UTF-8 is required";
  if (HasControlCharacter(pattern)) return "control characters are not allowed";
  if (pattern.find_first_of("?#") != std::string_view::npos) {
    return "'?' and '#' are not allowed: only the path of a request is matched";
  }
  return {};
}

std::string FindMethodFault(std::string_view method) {
  const bool upper =
      std::all_of(method.begin(), method.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
  if (upper && !method.empty() && method.size() <= kMethodBytesMax) return {};
  return absl::StrCat("a method must be 1 to ", kMethodBytesMax, " of A-Z");
}

std::string FindSegmentFault(std::string_view segment) {
  if (segment.empty()) return "a segment must not be empty";
  if (segment == "**") return "\"/**\" must come last";
  if (segment != "*" && segment.find('*') != std::string_view::npos) {
    return "'*' must be a whole segment";
  }
  EndpointBuffer buffer;
  std::size_t size = 0;
  while (!segment.empty()) {
    if (!AppendNormal(segment, buffer, size)) return "control characters are not allowed";
  }
  const std::string_view decoded(buffer.bytes.data(), size);
  if (decoded == "." || decoded == "..") return "\".\" and \"..\" segments are not allowed";
  return {};
}

std::string FindPathFault(std::string_view path) {
  if (path.empty() || path.front() != '/') return "a path must start with '/'";
  if (path == "/") return {};
  std::string_view rest = path.substr(1);
  while (true) {
    const std::size_t slash = rest.find('/');
    const bool last = slash == std::string_view::npos;
    const std::string_view segment = rest.substr(0, slash);
    if (last && segment == "**") return {};
    std::string fault = FindSegmentFault(segment);
    if (!fault.empty() || last) return fault;
    rest.remove_prefix(slash + 1);
  }
}

// "GET /a" without its method and the space; other patterns as they are.
std::string_view PathOf(std::string_view pattern) {
  if (pattern.empty() || pattern.front() == '/') return pattern;
  return pattern.substr(pattern.find(' ') + 1);
}

std::string FindFault(std::string_view pattern) {
  if (pattern.empty()) return {};
  std::string fault = FindTextFault(pattern);
  if (!fault.empty() || pattern.front() == '/') {
    return fault.empty() ? FindPathFault(pattern) : fault;
  }
  const std::size_t space = pattern.find(' ');
  if (space == std::string_view::npos) return "a path must start with '/'";
  fault = FindMethodFault(pattern.substr(0, space));
  return fault.empty() ? FindPathFault(PathOf(pattern)) : fault;
}

}  // namespace

absl::Status CheckEndpointPattern(std::string_view pattern) {
  const std::string fault = FindFault(pattern);
  if (fault.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("endpoint is ", Quoted(pattern), ", ", fault));
}

NormalEndpoint NormalizeEndpoint(std::string_view endpoint, EndpointBuffer& buffer) {
  if (endpoint.empty()) return {.kind = EndpointKind::kEmpty};
  if (endpoint[0] != '/') return {.kind = EndpointKind::kIrregular};
  const std::string_view looked_at = endpoint.substr(0, kEndpointBytesMax + 1);
  std::string_view path = endpoint;
  std::size_t count = kNotSplit;
  if (endpoint.size() <= kEndpointBytesMax) count = SplitNormal(path, buffer);
  if (count == kNotSplit) {
    path = looked_at.substr(0, std::min(looked_at.find('?'), looked_at.find('#')));
    if (path.size() > kEndpointBytesMax) return {.kind = EndpointKind::kIrregular};
    if (path.size() != endpoint.size()) count = SplitNormal(path, buffer);
  }
  if (count != kNotSplit) {
    return {EndpointKind::kRegular, path, {buffer.slashes.data(), count}};
  }
  return NormalizePath(path, buffer);
}

std::string NormalizePattern(std::string_view pattern) {
  const std::string_view path = PathOf(pattern);
  EndpointBuffer buffer;
  const NormalEndpoint normal = NormalizeEndpoint(path, buffer);
  return absl::StrCat(AbslView(pattern.substr(0, pattern.size() - path.size())),
                      AbslView(normal.path));
}

Narrowness NarrownessOf(std::string_view pattern) {
  Narrowness narrowness{.empty = pattern.empty() ? 1 : 0};
  std::string_view path = PathOf(pattern);
  narrowness.any_method = path.size() == pattern.size() ? 1 : 0;
  while (path.size() > 1) {
    path.remove_prefix(1);
    const std::string_view segment = path.substr(0, path.find('/'));
    path.remove_prefix(segment.size());
    if (segment == "**") {
      narrowness.any_rest = 1;
    } else if (segment == "*") {
      --narrowness.fewer_stars;
    } else {
      --narrowness.fewer_texts;
    }
  }
  return narrowness;
}

bool IsNarrower(std::string_view a, std::string_view b) {
  const Narrowness of_a = NarrownessOf(a);
  const Narrowness of_b = NarrownessOf(b);
  if (of_a != of_b) return of_a < of_b;
  return NormalizePattern(a) < NormalizePattern(b);
}

}  // namespace throttl::internal

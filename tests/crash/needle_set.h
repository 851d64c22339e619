// A NeedleSet finds any of many byte strings in a text, in one pass.
//
// Thread safety: const methods from any thread.
//
//   NeedleSet needles;
//   needles.AddSecret(secret);
//   CHECK(needles.FindIn(text).empty());
#ifndef THROTTL_TESTS_CRASH_NEEDLE_SET_H_
#define THROTTL_TESTS_CRASH_NEEDLE_SET_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace throttl::testing {

class NeedleSet {
 public:
  // REQUIRES: `bytes` has at least 8 bytes.
  void Add(std::string name, std::string_view bytes);

  // What betrays a secret: its random part, which is in the whole secret and in its body too, as it
  // is, in hexadecimal, and in base64 wherever it may begin in a text that is encoded.
  void AddSecret(std::string_view secret);

  // A digest: its bytes, hexadecimal and base64.
  void AddDigest(std::string_view digest);

  std::size_t size() const { return needles_.size(); }

  // The names of the needles in `text`, each once, in the order of Add.
  std::vector<std::string> FindIn(std::string_view text) const;

 private:
  struct Needle {
    std::string name;
    std::string bytes;
  };
  std::vector<Needle> needles_;
  // By the first 8 bytes, and by the first 2: which needles begin so, and whether any does.
  std::unordered_map<std::uint64_t, std::vector<std::size_t>> by_start_;
  std::vector<bool> starts_ = std::vector<bool>(1 << 16);
};

// `bytes` in base64 as part of a longer text that begins `skipped` bytes (0..2) before them,
// without the digits at the ends that depend on their neighbours.
std::string InnerBase64(std::string_view bytes, std::size_t skipped);

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_CRASH_NEEDLE_SET_H_

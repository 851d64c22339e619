// The explorer of slot_model.h: breadth first, every state once.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "src/base/fast_hash.h"
#include "tests/lease/slot_model.h"

namespace throttl::testing {
namespace {

constexpr std::uint32_t kNone = 0xFFFF'FFFF;

// The states that were reached, numbered from 0 in this order.
class Reached {
 public:
  // The number of the state, and whether it is new.
  std::pair<std::uint32_t, bool> Add(const ModelState& state) {
    if (2 * std::size_t{count_} >= places_.size()) Grow();
    const std::string_view bytes(reinterpret_cast<const char*>(&state), sizeof(state));
    const std::uint64_t hash = internal::FastHash(0, bytes);
    const auto tag = static_cast<std::uint32_t>(hash >> 32);
    std::uint64_t at = hash;
    for (;; ++at) {
      const Place& place = PlaceAt(at);
      if (place.number == kNone) break;
      if (place.tag != tag) continue;
      if (std::memcmp(&(*this)[place.number], &state, sizeof(state)) == 0) {
        return {place.number, false};
      }
    }
    if (count_ % kStatesAtOnce == 0) states_.push_back(std::make_unique<Chunk>());
    (*states_.back())[count_ % kStatesAtOnce] = state;
    PlaceAt(at) = {.number = count_, .tag = tag};
    hashes_.push_back(hash);
    return {count_++, true};
  }
  const ModelState& operator[](std::uint32_t number) const {
    return (*states_[number / kStatesAtOnce])[number % kStatesAtOnce];
  }
  std::uint32_t size() const { return count_; }

 private:
  struct Place {
    std::uint32_t number = kNone;
    std::uint32_t tag = 0;  // of the hash, so that few states are compared
  };
  // States do not move.
  static constexpr std::uint32_t kStatesAtOnce = 1 << 14;
  using Chunk = std::array<ModelState, kStatesAtOnce>;

  Place& PlaceAt(std::uint64_t hash) { return places_[hash & (places_.size() - 1)]; }
  void Grow() {
    places_.assign(std::max<std::size_t>(1024, 4 * places_.size()), Place{});
    for (std::uint32_t i = 0; i < count_; ++i) {
      std::uint64_t at = hashes_[i];
      while (PlaceAt(at).number != kNone) ++at;
      PlaceAt(at) = {.number = i, .tag = static_cast<std::uint32_t>(hashes_[i] >> 32)};
    }
  }

  std::vector<std::unique_ptr<Chunk>> states_;
  std::vector<std::uint64_t> hashes_;
  std::vector<Place> places_;
  std::uint32_t count_ = 0;
};

struct Origin {
  std::uint32_t from = kNone;
  int move = 0;
};

class Explorer {
 public:
  explicit Explorer(SlotModel& model) : model_(model) {}

  Exploration Run() {
    Add(model_.Initial(), {});
    for (std::uint32_t at = 0; at < reached_.size() && found_.violation.empty(); ++at) Expand(at);
    if (found_.violation.empty()) CheckAllEnd();
    found_.states = reached_.size();
    return found_;
  }

 private:
  void Expand(std::uint32_t at) {
    const ModelState state = reached_[at];
    const std::optional<int> alone = model_.AloneHere(state);
    std::array<std::uint32_t, SlotModel::kMoves> next = {};
    next.fill(kNone);
    for (int move = 0; move < SlotModel::kMoves; ++move) {
      const bool is_clock = move == 2 * SlotModel::kActors;
      if (alone.has_value() && (is_clock || move % SlotModel::kActors != *alone)) continue;
      ModelState after = state;
      if (!model_.Move(move, after)) continue;
      ++found_.transitions;
      model_.CheckState(after);
      if (!model_.violation().empty()) return Report(at, MoveText(move, state));
      next[static_cast<std::size_t>(move)] = Add(after, {.from = at, .move = move});
    }
    ends_by_.push_back(kNone);
    for (const int actor : SlotModel::Preferred(state)) {
      if (actor < 0 || ends_by_[at] != kNone) continue;
      ends_by_[at] = next[static_cast<std::size_t>(actor)];
    }
    if (alone.has_value()) ends_by_[at] = next[static_cast<std::size_t>(*alone)];
    if (ends_by_[at] != kNone) return;
    ++found_.ends;
    model_.CheckEnd(state);
    if (!model_.violation().empty()) Report(at, "nobody is left, and then all is settled");
  }

  std::uint32_t Add(ModelState state, const Origin& origin) {
    model_.MakeCanonical(state);
    const auto [number, is_new] = reached_.Add(state);
    if (is_new) origins_.push_back(origin);
    return number;
  }

  // From each state the preferred moves must lead to an end.
  void CheckAllEnd() {
    enum : std::uint8_t { kUnseen, kOnTheWay, kEnds };
    std::vector<std::uint8_t> marks(reached_.size(), kUnseen);
    for (std::uint32_t first = 0; first < reached_.size(); ++first) {
      std::uint32_t at = first;
      for (; at != kNone && marks[at] == kUnseen; at = ends_by_[at]) marks[at] = kOnTheWay;
      if (at != kNone && marks[at] == kOnTheWay) {
        found_.violation = "whoever is left comes to an end";
        return Report(first, "nobody gets any further");
      }
      for (at = first; at != kNone && marks[at] == kOnTheWay; at = ends_by_[at]) marks[at] = kEnds;
    }
  }

  void Report(std::uint32_t at, const std::string& last) {
    if (found_.violation.empty()) found_.violation = model_.violation();
    std::vector<std::string> lines = {last};
    for (; origins_[at].from != kNone; at = origins_[at].from) {
      lines.push_back(MoveText(origins_[at].move, reached_[origins_[at].from]));
    }
    std::reverse(lines.begin(), lines.end());
    for (const std::string& line : lines) absl::StrAppend(&found_.path, "\n  ", line);
  }

  SlotModel& model_;
  Exploration found_;
  Reached reached_;
  std::vector<Origin> origins_;
  std::vector<std::uint32_t> ends_by_;  // where the preferred move of a state leads
};

}  // namespace

Exploration Explore(SlotModel& model) { return Explorer(model).Run(); }

}  // namespace throttl::testing

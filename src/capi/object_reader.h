// An ObjectReader takes the members of one JSON object into variables, strictly: a member of
// another type, one that stands there twice and one that nobody asked for is an error that names
// it.
//
// Thread safety: none.
//
//   ObjectReader reader(json, "quota.");
//   reader.Integer("limit", quota.limit);
//   return reader.Finish();
#ifndef THROTTL_SRC_CAPI_OBJECT_READER_H_
#define THROTTL_SRC_CAPI_OBJECT_READER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include <nlohmann/json.hpp>

namespace throttl::capi {

using Json = nlohmann::json;

inline constexpr std::size_t kJsonBytesMax = std::size_t{16} << 20;
inline constexpr int kJsonDepthMax = 16;

// The object in `text`; empty text is one without members. InvalidArgument, in which `what` names
// the text: it is longer or deeper than the bounds above, no JSON (RFC 8259), no object, or a
// member stands there twice.
absl::StatusOr<Json> ParseObject(std::string_view text, std::string_view what);

// A choice of words for numbers.
struct Word {
  std::string_view word;
  int number;
};

// Each method leaves `out` as it is when the member is absent; also when it is null, but for `out`
// that is optional: then it becomes std::nullopt. After the first error nothing more is read.
class ObjectReader {
 public:
  // `object` outlives this. `path` stands before the names of members in messages.
  ObjectReader(const Json& object, std::string path);

  const Json& object() const { return object_; }
  bool Has(const char* name) const;  // and not as null
  void String(const char* name, std::string& out);
  void Integer(const char* name, std::int64_t& out);
  void Integer(const char* name, std::int32_t& out);
  void Integer(const char* name, std::optional<std::int64_t>& out);
  void Bool(const char* name, bool& out);
  // RFC 3339.
  void Time(const char* name, std::optional<absl::Time>& out);
  // Whole milliseconds; null: `of_null`.
  void Millis(const char* name, absl::Duration of_null, absl::Duration& out);
  void Strings(const char* name, std::vector<std::string>& out);
  void Integers(const char* name, std::vector<std::int32_t>& out);
  // One of `words`, as its number.
  void Choice(const char* name, const std::vector<Word>& words, int& out);
  // A member that must be an object or null, or an array of objects or null.
  using ReadObject = std::function<absl::Status(const Json& object, const std::string& path)>;
  void Nullable(const char* name, const std::function<void()>& of_null, const ReadObject& read);
  void Objects(const char* name, const ReadObject& read);

  // The first error; else that a member was not asked for; else OK.
  absl::Status Finish();
  void Fail(absl::Status status);

 private:
  // nullptr: absent, or there was an error. The member counts as asked for.
  const Json* Find(const char* name);
  // The same, and nullptr for null.
  const Json* FindValue(const char* name);
  void Wrong(const char* name, const Json& value, const char* wanted);
  // The same of a text that is short and no secret, which is shown.
  void WrongWord(const char* name, const Json& value, const char* wanted);

  const Json& object_;
  const std::string path_;
  std::set<std::string, std::less<>> asked_;
  absl::Status status_;
};

}  // namespace throttl::capi

#endif  // THROTTL_SRC_CAPI_OBJECT_READER_H_

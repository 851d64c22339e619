#include "src/capi/object_reader.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

namespace throttl::capi {
namespace {

constexpr std::size_t kShownBytesMax = 60;

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

// Never a whole text of a caller's: it may be a secret that stands in the wrong place.
std::string KindOf(const Json& value) {
  if (value.is_string())
    return absl::StrCat("a text of ", value.get_ref<const std::string&>().size(), " bytes");
  if (value.is_object()) return "an object";
  if (value.is_array()) return absl::StrCat("an array of ", value.size());
  return value.dump().substr(0, kShownBytesMax);
}

// Follows the parser: what is too deep or stands there twice.
class Guard {
 public:
  bool operator()(int depth, Json::parse_event_t event, const Json& parsed) {
    if (depth > kJsonDepthMax) too_deep_ = true;
    if (event == Json::parse_event_t::object_start) {
      names_.emplace_back();
    } else if (event == Json::parse_event_t::object_end) {
      names_.pop_back();
    } else if (event == Json::parse_event_t::key) {
      const auto& name = parsed.get_ref<const std::string&>();
      if (!names_.back().insert(name).second && twice_.empty()) {
        twice_ = name.substr(0, kShownBytesMax);
        is_twice_ = true;
      }
    }
    return true;
  }
  absl::Status status(absl::string_view what) const {
    if (too_deep_) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, " is deeper than ", kJsonDepthMax, " levels"));
    }
    if (!is_twice_) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(what, " has the member \"", twice_, "\" twice"));
  }

 private:
  bool too_deep_ = false;
  bool is_twice_ = false;
  std::string twice_;
  std::vector<std::set<std::string>> names_;
};

// The parser recurses for nothing, but what it makes is freed level by level.
bool IsTooDeep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    if (depth > kJsonDepthMax) return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<Json> ParseObject(std::string_view text, std::string_view what) {
  if (text.empty()) return Json::object();
  if (text.size() > kJsonBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        View(what), " has ", text.size(), " bytes, at most ", kJsonBytesMax, " are allowed"));
  }
  if (IsTooDeep(text)) {
    return absl::InvalidArgumentError(
        absl::StrCat(View(what), " is deeper than ", kJsonDepthMax, " levels"));
  }
  Guard guard;
  Json parsed = Json::parse(text, std::ref(guard), false);
  if (parsed.is_discarded()) {
    return absl::InvalidArgumentError(absl::StrCat(View(what), " is not JSON"));
  }
  const absl::Status status = guard.status(View(what));
  if (!status.ok()) return status;
  if (!parsed.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(View(what), " is ", KindOf(parsed), ", an object is needed"));
  }
  return parsed;
}

ObjectReader::ObjectReader(const Json& object, std::string path)
    : object_(object), path_(std::move(path)) {}

bool ObjectReader::Has(const char* name) const {
  const auto found = object_.find(name);
  return found != object_.end() && !found->is_null();
}

void ObjectReader::Fail(absl::Status status) {
  if (status_.ok()) status_ = std::move(status);
}

void ObjectReader::Wrong(const char* name, const Json& value, const char* wanted) {
  Fail(absl::InvalidArgumentError(
      absl::StrCat(path_, name, " is ", KindOf(value), ", ", wanted, " is needed")));
}

void ObjectReader::WrongWord(const char* name, const Json& value, const char* wanted) {
  if (!value.is_string() || value.get_ref<const std::string&>().size() > kShownBytesMax) {
    return Wrong(name, value, wanted);
  }
  Fail(absl::InvalidArgumentError(
      absl::StrCat(path_, name, " is ", value.dump(-1, ' ', true), ", ", wanted, " is needed")));
}

const Json* ObjectReader::Find(const char* name) {
  asked_.insert(name);
  if (!status_.ok()) return nullptr;
  const auto found = object_.find(name);
  return found == object_.end() ? nullptr : &*found;
}

const Json* ObjectReader::FindValue(const char* name) {
  const Json* const value = Find(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

void ObjectReader::String(const char* name, std::string& out) {
  const Json* const value = FindValue(name);
  if (value == nullptr) return;
  if (!value->is_string()) return Wrong(name, *value, "a text");
  out = value->get<std::string>();
}

void ObjectReader::Integer(const char* name, std::optional<std::int64_t>& out) {
  const Json* const value = Find(name);
  if (value == nullptr) return;
  if (value->is_null()) {
    out = std::nullopt;
  } else if (value->is_number_unsigned() &&
             value->get<std::uint64_t>() >
                 std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
    Wrong(name, *value, "a smaller integer");
  } else if (value->is_number_integer()) {
    out = value->get<std::int64_t>();
  } else {
    Wrong(name, *value, "an integer");
  }
}

void ObjectReader::Integer(const char* name, std::int64_t& out) {
  std::optional<std::int64_t> read = out;
  Integer(name, read);
  out = read.value_or(out);
}

void ObjectReader::Integer(const char* name, std::int32_t& out) {
  std::int64_t read = out;
  Integer(name, read);
  if (read < std::numeric_limits<std::int32_t>::min() ||
      read > std::numeric_limits<std::int32_t>::max()) {
    return Fail(absl::InvalidArgumentError(
        absl::StrCat(path_, name, " is ", read, ", which is outside of what 32 bits hold")));
  }
  out = static_cast<std::int32_t>(read);
}

void ObjectReader::Bool(const char* name, bool& out) {
  const Json* const value = FindValue(name);
  if (value == nullptr) return;
  if (!value->is_boolean()) return Wrong(name, *value, "true or false");
  out = value->get<bool>();
}

void ObjectReader::Time(const char* name, std::optional<absl::Time>& out) {
  const Json* const value = Find(name);
  if (value == nullptr) return;
  if (value->is_null()) {
    out = std::nullopt;
    return;
  }
  absl::Time time;
  std::string error;
  if (!value->is_string() ||
      !absl::ParseTime(absl::RFC3339_full, value->get<std::string>(), &time, &error)) {
    return WrongWord(name, *value, "a time as 2026-01-31T23:59:00Z");
  }
  out = time;
}

void ObjectReader::Millis(const char* name, absl::Duration of_null, absl::Duration& out) {
  const Json* const value = Find(name);
  if (value == nullptr) return;
  if (value->is_null()) {
    out = of_null;
    return;
  }
  std::int64_t millis = 0;
  Integer(name, millis);
  // Beyond this many, an absl::Duration is for ever.
  constexpr std::int64_t kMillisMax = std::int64_t{1} << 60;
  if (millis > kMillisMax || millis < -kMillisMax) return Wrong(name, *value, "a smaller integer");
  out = absl::Milliseconds(millis);
}

void ObjectReader::Strings(const char* name, std::vector<std::string>& out) {
  const Json* const value = FindValue(name);
  if (value == nullptr) return;
  if (!value->is_array()) return Wrong(name, *value, "an array of texts");
  out.clear();
  for (std::size_t i = 0; i < value->size(); ++i) {
    if (!(*value)[i].is_string()) {
      return Wrong(absl::StrCat(name, "[", i, "]").c_str(), (*value)[i], "a text");
    }
    out.push_back((*value)[i].get<std::string>());
  }
}

void ObjectReader::Integers(const char* name, std::vector<std::int32_t>& out) {
  const Json* const value = FindValue(name);
  if (value == nullptr) return;
  if (!value->is_array()) return Wrong(name, *value, "an array of integers");
  out.clear();
  for (std::size_t i = 0; i < value->size(); ++i) {
    const Json& item = (*value)[i];
    if (!item.is_number_integer() || item < std::numeric_limits<std::int32_t>::min() ||
        item > std::numeric_limits<std::int32_t>::max()) {
      return Wrong(absl::StrCat(name, "[", i, "]").c_str(), item, "an integer of 32 bits");
    }
    out.push_back(item.get<std::int32_t>());
  }
}

void ObjectReader::Choice(const char* name, const std::vector<Word>& words, int& out) {
  const Json* const value = FindValue(name);
  if (value == nullptr) return;
  std::string all;
  for (const Word& word : words) {
    if (value->is_string() && value->get_ref<const std::string&>() == word.word) {
      out = word.number;
      return;
    }
    absl::StrAppend(&all, all.empty() ? "\"" : ", \"", View(word.word), "\"");
  }
  WrongWord(name, *value, absl::StrCat("one of ", all).c_str());
}

void ObjectReader::Nullable(const char* name, const std::function<void()>& of_null,
                            const ReadObject& read) {
  const Json* const value = Find(name);
  if (value == nullptr) return;
  if (value->is_null()) return of_null();
  if (!value->is_object()) return Wrong(name, *value, "an object");
  Fail(read(*value, absl::StrCat(path_, name, ".")));
}

void ObjectReader::Objects(const char* name, const ReadObject& read) {
  const Json* const value = FindValue(name);
  if (value == nullptr) return;
  if (!value->is_array()) return Wrong(name, *value, "an array of objects");
  for (std::size_t i = 0; i < value->size() && status_.ok(); ++i) {
    const std::string item = absl::StrCat(name, "[", i, "]");
    if (!(*value)[i].is_object()) return Wrong(item.c_str(), (*value)[i], "an object");
    Fail(read((*value)[i], absl::StrCat(path_, item, ".")));
  }
}

absl::Status ObjectReader::Finish() {
  if (!status_.ok()) return status_;
  for (const auto& [name, value] : object_.items()) {
    if (asked_.find(name) != asked_.end()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(path_, name.substr(0, kShownBytesMax), " is not a member that is known here"));
  }
  return absl::OkStatus();
}

}  // namespace throttl::capi

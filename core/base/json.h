// JSON from files that nobody vouches for.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/strings.h"
#include "nlohmann/json.hpp"

namespace dreamstate {

// What to say of a text that the parser refused: "syntax error at line 3, column 7".
std::string JsonSyntaxError(const nlohmann::detail::exception& error);

// The object in `text`; arrays and objects lie in each other at most `deepest` deep (the library
// copies and writes them by recursion). INVALID_ARGUMENT beginning with `source` for a syntax error
// (with its place), a NUL, deeper nesting, a key that stands twice in one object, or anything but
// an object.
template <typename Json = nlohmann::json>
absl::StatusOr<Json> ParseJsonObject(std::string_view source, std::string_view text, int deepest) {
  const auto wrong = [source](std::string_view what) {
    return absl::InvalidArgumentError(StrCat(source, ": ", what));
  };
  // The parser would take a NUL for the end of the text and leave the rest unread.
  if (text.find('\0') != std::string_view::npos) {
    return wrong("expected a JSON object, found a NUL in it");
  }
  bool too_deep = false;
  std::string doubled;
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto watch = [&](int depth, typename Json::parse_event_t event, Json& value) {
    too_deep = too_deep || depth > deepest;
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& key = value.template get_ref<const std::string&>();
      if (!keys.back().insert(key).second) doubled = key;
    }
    return !too_deep;
  };
  Json object;
  try {
    object = Json::parse(text, watch);
  } catch (const nlohmann::detail::exception& error) {
    if (!too_deep) {
      return wrong(StrCat("expected a JSON object, found a ", JsonSyntaxError(error)));
    }
  }
  if (too_deep) {
    return wrong(StrCat("nested too deeply: expected at most ", deepest, " levels"));
  }
  if (!doubled.empty()) {
    constexpr size_t kShown = 64;
    return wrong(StrCat("the key \"", doubled.substr(0, kShown), "\" stands twice"));
  }
  if (!object.is_object()) return wrong("expected a JSON object");
  return object;
}

}  // namespace dreamstate

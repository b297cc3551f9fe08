#include "core/base/json.h"

namespace dreamstate {

std::string JsonSyntaxError(const nlohmann::detail::exception& error) {
  // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while ..."
  const std::string_view text = error.what();
  const size_t begin = text.find("at line ");
  if (begin == std::string_view::npos) return "number that JSON readers cannot hold";
  return StrCat("syntax error ", text.substr(begin, text.find(':', begin) - begin));
}

}  // namespace dreamstate

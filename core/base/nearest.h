// Which name was meant.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace dreamstate {

// The known name that looks most like `name` (edit distance); `known` is not empty.
std::string Nearest(std::string_view name, std::span<const std::string> known);

}  // namespace dreamstate

// What a progress line begins with.
#pragma once

#include <cstdint>
#include <string>

namespace dreamstate::cli {

// "[######..................]", nothing filled when `total` is 0 or less.
std::string ProgressBar(int64_t done, int64_t total);

}  // namespace dreamstate::cli

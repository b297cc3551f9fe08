// What a long evaluation is at, for a person who waits.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace dreamstate::evaluation {

// `done` of `total` tokens of a stage are read; the first call of a stage has done = 0. From the
// thread that evaluates.
using StageProgress = std::function<void(std::string_view stage, int64_t done, int64_t total)>;

}  // namespace dreamstate::evaluation

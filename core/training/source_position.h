// Positions of sources that are just a step number.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "core/base/strings.h"

namespace dreamstate::training {

inline std::string SaveStep(int64_t step) { return StrCat("step ", step); }

inline absl::Status RestoreStep(const std::string& position, int64_t* step) {
  constexpr std::string_view kPrefix = "step ";
  int64_t found = -1;
  if (!std::string_view(position).starts_with(kPrefix) ||
      !absl::SimpleAtoi(position.substr(kPrefix.size()), &found) || found < 0) {
    return absl::InvalidArgumentError(StrCat("data position: expected \"step <number>\", found \"",
                                             position.substr(0, 40), "\""));
  }
  *step = found;
  return absl::OkStatus();
}

}  // namespace dreamstate::training

// The heads of a model's states as pictures.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/evaluation/state_statistics.h"
#include "core/picture/image.h"

namespace dreamstate::evaluation {

struct NamedImage {
  std::string name;  // "stable_rank": a file's, without ending
  picture::Image image;
};

// Heat maps layer x head of the root mean square, the spectral norm, the stable rank and the
// purity, which is drawn from 0 to 1.
absl::StatusOr<std::vector<NamedImage>> DrawStateStatistics(const StateStatistics& statistics,
                                                            const StateChoice& choice);

}  // namespace dreamstate::evaluation

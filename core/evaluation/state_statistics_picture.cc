#include "core/evaluation/state_statistics_picture.h"

#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/picture/heat_map.h"

namespace dreamstate::evaluation {

absl::StatusOr<std::vector<NamedImage>> DrawStateStatistics(const StateStatistics& statistics,
                                                            const StateChoice& choice) {
  struct Map {
    const char* name;
    const char* title;
    double HeadStatistics::*value;
  };
  constexpr Map kMaps[] = {
      {"rms", "Root mean square", &HeadStatistics::rms},
      {"spectral_norm", "Spectral norm", &HeadStatistics::spectral_norm},
      {"stable_rank", "Stable rank", &HeadStatistics::stable_rank},
      {"purity", "Neighbours of the same label", &HeadStatistics::purity},
  };
  std::vector<NamedImage> images;
  for (const Map& map : kMaps) {
    std::vector<float> values;
    for (const HeadStatistics& head : statistics.heads) {
      values.push_back(static_cast<float>(head.*map.value));
    }
    const bool share = map.value == &HeadStatistics::purity;
    DS_ASSIGN_OR_RETURN(
        picture::Image image,
        picture::Draw(picture::HeatMap{
            .title = map.title,
            .subtitle = StrCat(statistics.states, " ", training::SplitName(choice.split),
                               " states at token ", choice.position),
            .row_axis = "layer",
            .column_axis = "head",
            .rows = statistics.shape.layers,
            .columns = statistics.shape.heads,
            .values = values,
            .scale = share ? picture::Scale{.low = 0, .high = 1} : picture::Scale::Of(values)}));
    images.push_back({map.name, std::move(image)});
  }
  return images;
}

}  // namespace dreamstate::evaluation

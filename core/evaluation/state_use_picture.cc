#include "core/evaluation/state_use_picture.h"

#include <string_view>
#include <utility>

#include "core/base/strings.h"
#include "core/picture/line_chart.h"

namespace dreamstate::evaluation {

absl::StatusOr<picture::Image> DrawStateUse(const StateUse& use, const StateUseOptions& options) {
  constexpr std::string_view kShown[] = {"own_after", "own_prompt_64", "class_mean",
                                         "foreign",   "wrong_label",   "shuffled"};
  picture::LineChart chart;
  chart.title = StrCat("Bits saved by states at token ", options.windows.position, ", ",
                       use.windows, " documents");
  chart.x_axis = "tokens behind the state";
  chart.y_axis = "bits saved per byte";
  for (const std::string_view id : kShown) {
    const StateWorth* worth = use.Find(id);
    if (worth == nullptr) continue;
    picture::Series series = {.name = worth->name, .x = {}, .y = {}, .markers = true};
    for (size_t d = 0; d < use.distances.size(); ++d) {
      series.x.push_back((use.distances[d].from + use.distances[d].to) / 2.0);
      series.y.push_back(worth->by_distance[d].per_byte);
    }
    chart.series.push_back(std::move(series));
  }
  return picture::Draw(chart);
}

}  // namespace dreamstate::evaluation

#include "core/evaluation/chosen_states.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "core/base/draws.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/tensors/import.h"

namespace dreamstate::evaluation {
namespace {

using training::StateDataset;
using training::StateDatasetInfo;
using training::StateShard;

constexpr uint32_t kChoiceStream = 0x43484f53;  // "CHOS"

// Where a state lies.
struct Place {
  int shard = 0;
  size_t row = 0;
  friend auto operator<=>(const Place&, const Place&) = default;
};

absl::Status CheckPosition(const StateDatasetInfo& info, int position, std::string_view source) {
  if (std::find(info.positions.begin(), info.positions.end(), position) != info.positions.end()) {
    return absl::OkStatus();
  }
  std::string there;
  for (const int one : info.positions) StrAppend(&there, there.empty() ? "" : ", ", one);
  return absl::InvalidArgumentError(StrCat("position: expected one that ", source,
                                           " has states of (", there, "), found ", position));
}

absl::StatusOr<std::vector<Place>> PlacesOf(const StateDataset& dataset,
                                            const StateChoice& choice) {
  std::vector<Place> places;
  for (int shard = 0; shard < dataset.info().shards[static_cast<int>(choice.split)]; ++shard) {
    DS_ASSIGN_OR_RETURN(const StateShard content, dataset.ReadShard(choice.split, shard));
    for (size_t row = 0; row < content.origins.size(); ++row) {
      const training::StateOrigin& origin = content.origins[row];
      if (origin.position != choice.position || !dataset.info().trained[origin.label]) continue;
      places.push_back({shard, row});
    }
  }
  if (places.empty()) {
    return absl::FailedPreconditionError(StrCat(
        dataset.directory(), ": expected states of trained labels at token ", choice.position,
        " of the split ", training::SplitName(choice.split), ", found none"));
  }
  if (places.size() <= static_cast<size_t>(choice.most)) return places;
  std::vector<Place> chosen;
  Draws draws(choice.seed, kChoiceStream, static_cast<uint32_t>(choice.split));
  for (const int32_t i : draws.Choose(choice.most, static_cast<int32_t>(places.size()))) {
    chosen.push_back(places[i]);
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace

std::span<const float> ChosenStates::Head(size_t index, int layer, int head) const {
  const auto elements = static_cast<size_t>(shape.head_size) * shape.head_size;
  const size_t number = (index * shape.layers + layer) * shape.heads + head;
  return std::span(wkv).subspan(number * elements, elements);
}

absl::StatusOr<ChosenStates> ChooseStates(const StateDataset& dataset, const StateChoice& choice) {
  if (choice.most < 1) {
    return absl::InvalidArgumentError(StrCat("most: expected at least 1, found ", choice.most));
  }
  DS_RETURN_IF_ERROR(CheckPosition(dataset.info(), choice.position, dataset.directory()));
  DS_RETURN_IF_ERROR(dataset.CheckComplete(choice.split));
  DS_ASSIGN_OR_RETURN(const std::vector<Place> places, PlacesOf(dataset, choice));
  ChosenStates states;
  states.shape = dataset.info().shape;
  const auto elements = static_cast<size_t>(states.shape.wkv_elements());
  states.wkv.resize(places.size() * elements);
  size_t next = 0;
  while (next < places.size()) {
    const int shard = places[next].shard;
    DS_ASSIGN_OR_RETURN(const StateShard content, dataset.ReadShard(choice.split, shard));
    const tensors::Tensor& all = *content.tensors.Find("wkv");  // ReadShard has seen it
    const size_t bytes = elements * tensors::DTypeBytes(all.dtype);
    for (; next < places.size() && places[next].shard == shard; ++next) {
      const size_t row = places[next].row;
      if (row >= content.origins.size()) {
        return absl::DataLossError(
            StrCat(content.tensors.source(), ": was replaced by a smaller one while it was read"));
      }
      const tensors::Tensor one = {.name = all.name,
                                   .dtype = all.dtype,
                                   .shape = {static_cast<int64_t>(elements)},
                                   .data = all.data.subspan(row * bytes, bytes)};
      const std::span<float> out = std::span(states.wkv).subspan(next * elements, elements);
      DS_RETURN_IF_ERROR(tensors::ToFloat(one, out));
      if (!std::all_of(out.begin(), out.end(), [](float value) { return std::isfinite(value); })) {
        return absl::InvalidArgumentError(
            StrCat(content.tensors.source(), ": state ", row, ": expected finite values"));
      }
      states.labels.push_back(content.origins[row].label);
    }
    DS_RETURN_IF_ERROR(tensors::CheckNothingLost(content.tensors));
  }
  return states;
}

}  // namespace dreamstate::evaluation

#include "core/training/state_dit_gate.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/diffusion/state_generator.h"
#include "core/training/state_records.h"

namespace dreamstate::training {
namespace {

constexpr size_t kLeastStates = 50;

}  // namespace

absl::StatusOr<tensors::TensorSet> WithSafetyGate(const tensors::TensorSet& set,
                                                  const StateDataset& dataset, int most_states) {
  struct Memory {
    tensors::TensorSet set;  // keeps what its tensors point into
    std::optional<diffusion::SafetyGate> gate;
  };
  const auto memory = std::make_shared<Memory>(Memory{set, std::nullopt});
  std::vector<tensors::Tensor> list;
  for (const tensors::Tensor& tensor : set.tensors()) {
    if (!tensor.name.starts_with("safety.")) list.push_back(tensor);
  }
  DS_ASSIGN_OR_RETURN(const tensors::TensorSet bare,
                      tensors::TensorSet::Make(set.source(), list, {}, memory));
  DS_ASSIGN_OR_RETURN(const std::unique_ptr<diffusion::StateGenerator> generator,
                      diffusion::StateGenerator::Load(bare, /*bf16=*/true));
  const state::Shape& shape = dataset.info().shape;
  if (generator->codec().shape() != shape) {
    return absl::FailedPreconditionError(
        StrCat(dataset.directory(), ": expected states of the state DiT's shape"));
  }
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const StateRecords> records,
                      StateRecords::Read(dataset));
  std::vector<StateRecord> held_out(records->all().begin() + records->training(),
                                    records->all().end());
  const size_t every =
      std::max<size_t>(1, held_out.size() / static_cast<size_t>(std::max(1, most_states)));
  std::vector<float> wkv, values;
  std::vector<double> energy;
  int shard = -1;
  for (size_t i = 0; i < held_out.size(); i += every) {
    const StateRecord& record = held_out[i];
    if (record.shard != shard) {
      DS_ASSIGN_OR_RETURN(const StateShard content, dataset.ReadShard(Split::kValid, record.shard));
      DS_ASSIGN_OR_RETURN(const tensors::Tensor* tensor,
                          content.tensors.Require("wkv", std::vector<int64_t>(5, -1)));
      values.resize(static_cast<size_t>(tensor->elements()));
      DS_RETURN_IF_ERROR(tensors::ToFloat(*tensor, values));
      shard = record.shard;
    }
    state::State state = state::State::Empty(shape);
    const auto begin = values.begin() + record.row * shape.wkv_elements();
    std::copy_n(begin, shape.wkv_elements(), state.wkv.begin());
    const state::State* const one[] = {&state};
    DS_ASSIGN_OR_RETURN(const std::vector<double> found, generator->Energy(one));
    energy.push_back(found[0]);
    wkv.insert(wkv.end(), state.wkv.begin(), state.wkv.end());
  }
  if (energy.size() >= kLeastStates) {
    DS_ASSIGN_OR_RETURN(memory->gate, diffusion::SafetyGate::Fit(shape, wkv, energy));
    for (tensors::Tensor& tensor : memory->gate->ToTensors()) list.push_back(std::move(tensor));
  }
  return tensors::TensorSet::Make(set.source(), std::move(list), {}, memory);
}

}  // namespace dreamstate::training

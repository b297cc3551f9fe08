#include "core/training/state_bank.h"

#include <vector>

#include "core/training/rank_share.h"

namespace dreamstate::training {

using torch::Tensor;

StateBank::StateBank(int slots, const BackboneSizes& sizes, torch::Device device) : slots_(slots) {
  const auto options = torch::TensorOptions().device(device).dtype(torch::kFloat);
  const int64_t n = sizes.head_size;
  shift_ = torch::zeros({slots, sizes.layers, 2, sizes.width}, options);
  wkv_ = torch::zeros({slots, sizes.layers, sizes.width / n, n, n}, options);
}

BackboneState StateBank::Start(std::span<const Row> rows) const {
  std::vector<int64_t> slots, owners;
  std::vector<float> weights;
  for (size_t row = 0; row < rows.size(); ++row) {
    for (const int32_t slot : rows[row].start_slots) {
      slots.push_back(slot);
      owners.push_back(static_cast<int64_t>(row));
      weights.push_back(1.0f / static_cast<float>(rows[row].start_slots.size()));
    }
  }
  if (slots.empty()) return {};
  const torch::NoGradGuard no_gradients;
  const auto count = static_cast<int64_t>(slots.size());
  const torch::Device device = wkv_.device();
  const Tensor slot = torch::tensor(slots, torch::kLong).to(device);
  const Tensor owner = torch::tensor(owners, torch::kLong).to(device);
  const Tensor weight = torch::tensor(weights, torch::kFloat).to(device);
  const auto mean = [&](const Tensor& bank) {
    std::vector<int64_t> shape = bank.sizes().vec();
    shape[0] = static_cast<int64_t>(rows.size());
    std::vector<int64_t> broadcast(shape.size(), 1);
    broadcast[0] = count;
    return torch::zeros(shape, bank.options())
        .index_add_(0, owner, bank.index_select(0, slot).mul_(weight.view(broadcast)));
  };
  return {.shift = mean(shift_), .wkv = mean(wkv_)};
}

void StateBank::Keep(std::span<const Row> rows, const BackboneState& final_state) {
  std::vector<int64_t> slots, owners;
  for (size_t row = 0; row < rows.size(); ++row) {
    if (rows[row].keep_slot < 0) continue;
    slots.push_back(rows[row].keep_slot);
    owners.push_back(static_cast<int64_t>(row));
  }
  if (slots.empty()) return;
  const torch::NoGradGuard no_gradients;
  const Tensor slot = torch::tensor(slots, torch::kLong).to(wkv_.device());
  const Tensor owner = torch::tensor(owners, torch::kLong).to(wkv_.device());
  shift_.index_copy_(0, slot, final_state.shift.detach().index_select(0, owner).to(torch::kFloat));
  wkv_.index_copy_(0, slot, final_state.wkv.detach().index_select(0, owner));
}

void StateBank::Exchange(std::span<const Row> rows, const Ranks& ranks, ProcessGroup& group) {
  std::vector<Row> kept;
  std::vector<int64_t> ours, slots;  // ours: which of `kept` this rank computed, in which slots
  for (size_t row = 0; row < rows.size(); ++row) {
    if (rows[row].keep_slot < 0) continue;
    if (IsOurs(static_cast<int>(row), ranks)) {
      ours.push_back(static_cast<int64_t>(kept.size()));
      slots.push_back(rows[row].keep_slot);
    }
    kept.push_back(rows[row]);
  }
  if (kept.empty()) return;
  const torch::NoGradGuard no_gradients;
  // A rank's own states among zeros: the sum has them all.
  const auto of_all = [&](const Tensor& bank) {
    std::vector<int64_t> shape = bank.sizes().vec();
    shape[0] = static_cast<int64_t>(kept.size());
    const Tensor states = torch::zeros(shape, bank.options());
    if (!ours.empty()) {
      const auto index = [&](const std::vector<int64_t>& values) {
        return torch::tensor(values, torch::kLong).to(bank.device());
      };
      states.index_copy_(0, index(ours), bank.index_select(0, index(slots)));
    }
    group.Sum(states);
    return states;
  };
  Keep(kept, {.shift = of_all(shift_), .wkv = of_all(wkv_)});
}

}  // namespace dreamstate::training

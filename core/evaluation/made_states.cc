#include "core/evaluation/made_states.h"

namespace dreamstate::evaluation {

MeanState::MeanState(const state::Shape& shape)
    : shape_(shape), shift_(shape.shift_elements()), wkv_(shape.wkv_elements()) {}

void MeanState::Add(const state::State& state) {
  for (size_t i = 0; i < shift_.size(); ++i) shift_[i] += state.shift[i];
  for (size_t i = 0; i < wkv_.size(); ++i) wkv_[i] += state.wkv[i];
  ++count_;
}

Harvested MeanState::Mean() const {
  Harvested mean;
  mean.state = state::State::Empty(shape_);
  const auto count = static_cast<double>(count_);
  for (size_t i = 0; i < shift_.size(); ++i) {
    mean.state.shift[i] = static_cast<float>(shift_[i] / count);
  }
  for (size_t i = 0; i < wkv_.size(); ++i) {
    mean.state.wkv[i] = static_cast<float>(wkv_[i] / count);
  }
  return mean;
}

Harvested WithShift(const state::State& state, std::span<const float> shift) {
  Harvested made;
  made.state = state;
  made.state.shift.assign(shift.begin(), shift.end());
  return made;
}

Harvested Shuffled(const state::State& state, Draws& draws) {
  Harvested made;
  made.state = state;
  const state::Shape& shape = state.shape;
  const auto shuffle_parts = [&draws](std::vector<float>& values, size_t part) {
    for (size_t begin = 0; begin < values.size(); begin += part) {
      draws.Shuffle(std::span<float>(values).subspan(begin, part));
    }
  };
  shuffle_parts(made.state.shift, shape.width);
  shuffle_parts(made.state.wkv, static_cast<size_t>(shape.head_size) * shape.head_size);
  return made;
}

}  // namespace dreamstate::evaluation

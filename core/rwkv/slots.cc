#include "core/rwkv/slots.h"

#include <algorithm>
#include <cstring>

namespace dreamstate::rwkv {
namespace {

// Every head of `from` [rows][columns] transposed into `to`.
void TransposeHeads(const float* from, int64_t heads, int size, float* to) {
  for (int64_t head = 0; head < heads;
       ++head, from += int64_t{size} * size, to += int64_t{size} * size) {
    for (int row = 0; row < size; ++row) {
      for (int column = 0; column < size; ++column)
        to[int64_t{column} * size + row] = from[int64_t{row} * size + column];
    }
  }
}

}  // namespace

Slots::Slots(const Config& config, int count)
    : config_(config),
      count_(count),
      slot_elements_(config.shift_elements() + config.wkv_elements()),
      data_(kernels::MakeAligned<float>(static_cast<size_t>(count) * slot_elements_)) {}

void Slots::Clear(int slot) { std::memset(shift(slot, 0, 0), 0, slot_elements_ * sizeof(float)); }

void Slots::Load(int slot, std::span<const float> shift_values, std::span<const float> wkv_values) {
  std::copy(shift_values.begin(), shift_values.end(), shift(slot, 0, 0));
  TransposeHeads(wkv_values.data(), int64_t{config_.layers} * config_.heads, config_.head_size,
                 wkv(slot, 0));
}

void Slots::Store(int slot, std::span<float> shift_values, std::span<float> wkv_values) const {
  const float* begin = data_.get() + slot * slot_elements_;
  std::copy(begin, begin + config_.shift_elements(), shift_values.begin());
  TransposeHeads(begin + config_.shift_elements(), int64_t{config_.layers} * config_.heads,
                 config_.head_size, wkv_values.data());
}

std::span<const float> Slots::values(int slot) const {
  return {data_.get() + slot * slot_elements_, static_cast<size_t>(slot_elements_)};
}

void Slots::Restore(int slot, std::span<const float> values) {
  std::copy(values.begin(), values.end(), shift(slot, 0, 0));
}

void Slots::Copy(int from, int to) {
  std::memcpy(shift(to, 0, 0), shift(from, 0, 0), slot_elements_ * sizeof(float));
}

float* Slots::shift(int slot, int layer, int part) {
  return data_.get() + slot * slot_elements_ + (int64_t{layer} * 2 + part) * config_.width;
}

float* Slots::wkv(int slot, int layer) {
  return data_.get() + slot * slot_elements_ + config_.shift_elements() +
         int64_t{layer} * config_.heads * config_.head_size * config_.head_size;
}

}  // namespace dreamstate::rwkv

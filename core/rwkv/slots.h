// States of running sequences, in the engine's private layout (wkv with the key first, so that
// lanes run over values). Everything outside sees the canonical layout: shift [L][2][D] (0 time
// mix, 1 channel mix) and wkv [L][H][N value][N key], fp32. All slots are allocated once. Not
// thread-safe: belongs to the engine's loop.
#pragma once

#include <span>

#include "core/rwkv/config.h"
#include "kernels/runtime/aligned.h"

namespace dreamstate::rwkv {

class Slots {
 public:
  Slots(const Config& config, int count);

  int count() const { return count_; }
  const Config& config() const { return config_; }
  // The empty state.
  void Clear(int slot);
  // From and to the canonical layout; exact. Spans have config.shift_elements() and
  // config.wkv_elements().
  void Load(int slot, std::span<const float> shift, std::span<const float> wkv);
  void Store(int slot, std::span<float> shift, std::span<float> wkv) const;
  // The state as it lies here, and back: a plain copy, for slots of the same configuration and the
  // same numerics. values(slot) has config.shift_elements() + config.wkv_elements() and changes
  // with the slot.
  std::span<const float> values(int slot) const;
  void Restore(int slot, std::span<const float> values);
  // Branches: `to` becomes the same state as `from`.
  void Copy(int from, int to);

  // Raw views for the engine: [D], and [H][N key][N value].
  float* shift(int slot, int layer, int part);
  float* wkv(int slot, int layer);

 private:
  Config config_;
  int count_;
  int64_t slot_elements_;
  kernels::AlignedBuffer<float> data_;
};

}  // namespace dreamstate::rwkv

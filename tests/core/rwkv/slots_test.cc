#include "core/rwkv/slots.h"

#include <vector>

#include "gtest/gtest.h"
#include "tests/support/random_backbone.h"

namespace dreamstate::rwkv {
namespace {

using dreamstate::testing::SmallConfig;

class SlotsTest : public ::testing::Test {
 protected:
  SlotsTest() : slots_(config_, 3), shift_(config_.shift_elements()), wkv_(config_.wkv_elements()) {
    for (size_t i = 0; i < shift_.size(); ++i) shift_[i] = static_cast<float>(i);
    for (size_t i = 0; i < wkv_.size(); ++i) wkv_[i] = static_cast<float>(i) * 0.5f;
  }

  void Expect(int slot, const std::vector<float>& shift, const std::vector<float>& wkv) {
    std::vector<float> stored_shift(shift_.size()), stored_wkv(wkv_.size());
    slots_.Store(slot, stored_shift, stored_wkv);
    EXPECT_EQ(stored_shift, shift);
    EXPECT_EQ(stored_wkv, wkv);
  }

  Config config_ = SmallConfig();
  Slots slots_;
  std::vector<float> shift_, wkv_;
};

TEST_F(SlotsTest, WhatWasLoadedIsStoredAgain) {
  slots_.Load(1, shift_, wkv_);
  Expect(1, shift_, wkv_);
}

TEST_F(SlotsTest, TheEnginesLayoutHasTheKeyFirst) {
  slots_.Load(0, shift_, wkv_);
  const int n = config_.head_size;
  // Layer 1, head 1, value 3, key 5.
  const int64_t canonical = ((int64_t{1} * config_.heads + 1) * n + 3) * n + 5;
  EXPECT_EQ(slots_.wkv(0, 1)[(int64_t{1} * n + 5) * n + 3], wkv_[canonical]);
  EXPECT_EQ(slots_.shift(0, 1, 1)[7], shift_[3 * config_.width + 7]);
}

TEST_F(SlotsTest, ClearAndCopyTouchOnlyTheirSlot) {
  for (int slot = 0; slot < 3; ++slot) slots_.Load(slot, shift_, wkv_);
  slots_.Clear(1);
  const std::vector<float> no_shift(shift_.size()), no_wkv(wkv_.size());
  Expect(0, shift_, wkv_);
  Expect(1, no_shift, no_wkv);
  Expect(2, shift_, wkv_);
  slots_.Copy(1, 2);
  Expect(0, shift_, wkv_);
  Expect(2, no_shift, no_wkv);
}

TEST_F(SlotsTest, ValuesAreRestoredInAnotherSlotAndInOtherSlots) {
  slots_.Load(1, shift_, wkv_);
  const std::span<const float> here = slots_.values(1);
  ASSERT_EQ(here.size(), shift_.size() + wkv_.size());
  const std::vector<float> values(here.begin(), here.end());
  slots_.Clear(1);
  slots_.Restore(2, values);
  Expect(2, shift_, wkv_);
  Expect(1, std::vector<float>(shift_.size()), std::vector<float>(wkv_.size()));
  Slots others(config_, 1);
  others.Restore(0, values);
  std::vector<float> shift(shift_.size()), wkv(wkv_.size());
  others.Store(0, shift, wkv);
  EXPECT_EQ(shift, shift_);
  EXPECT_EQ(wkv, wkv_);
}

}  // namespace
}  // namespace dreamstate::rwkv

// The learning rate of RWKV-LM's trainer (spec section 3.4): a cosine from lr to lr_final over the
// steps after the warm-up, times a linear warm-up from one hundredth.
#pragma once

#include <cstdint>

namespace dreamstate::training {

struct Schedule {
  double lr = 6e-4;        // > 0
  double lr_final = 6e-5;  // >= 0
  int64_t warmup_steps = 10;
  int64_t steps = 0;  // of the whole run, warm-up included
};

// Of step 0, 1, ... ; after the last step, lr_final.
double LearningRate(const Schedule& schedule, int64_t step);

}  // namespace dreamstate::training

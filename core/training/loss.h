// The training loss (spec section 3.3): mean cross entropy with L2Wrap. Internal to core/training:
// shows torch types.
#pragma once

#include <torch/torch.h>

namespace dreamstate::training {

// logits [M][V] of any float type; targets [M] int64, -1 = not scored. The sum of -ln p(target)
// over scored rows divided by `scored`, as a scalar of at least fp32. L2Wrap leaves the value alone
// and adds 1e-4 / scored times the largest logit of each scored row to that logit's gradient.
// `scored` is that of the whole batch, so that parts of it add up.
torch::Tensor CrossEntropy(const torch::Tensor& logits, const torch::Tensor& targets,
                           double scored);

}  // namespace dreamstate::training

#include "kernels/runtime/vector_avx2.h"
#include "kernels/wkv7_gradient/wkv7_gradient_vector.h"

namespace dreamstate::kernels {

void Wkv7ForwardOfAvx2(const Wkv7ForwardHead& head) { Wkv7ForwardVector<VectorAvx2>(head); }
void Wkv7BackwardOfAvx2(const Wkv7BackwardHead& head) { Wkv7BackwardVector<VectorAvx2>(head); }

}  // namespace dreamstate::kernels

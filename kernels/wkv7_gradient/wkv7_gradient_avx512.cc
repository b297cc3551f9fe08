#include "kernels/runtime/vector_avx512.h"
#include "kernels/wkv7_gradient/wkv7_gradient_vector.h"

namespace dreamstate::kernels {

void Wkv7ForwardOfAvx512(const Wkv7ForwardHead& head) { Wkv7ForwardVector<VectorAvx512>(head); }
void Wkv7BackwardOfAvx512(const Wkv7BackwardHead& head) { Wkv7BackwardVector<VectorAvx512>(head); }

}  // namespace dreamstate::kernels

#include "core/training/learner_parts.h"

#include <malloc.h>

#include <algorithm>
#include <thread>

#include "absl/strings/numbers.h"
#include "core/base/status.h"
#include "core/tensors/safetensors.h"
#include "kernels/runtime/cpu.h"

namespace dreamstate::training {

using torch::Tensor;

absl::StatusOr<torch::Device> ChooseDevice(const std::string& name, const Ranks& ranks) {
  if (name == "cpu") return torch::Device(torch::kCPU);
  if (name != "cuda") {
    return absl::InvalidArgumentError(StrCat("device: expected cpu or cuda, found \"", name, "\""));
  }
  if (!torch::cuda::is_available()) {
    return absl::FailedPreconditionError(
        "device cuda: no CUDA device is here, or this build does not link LibTorch's CUDA half "
        "(the preset cuda does)");
  }
  if (ranks.local_rank >= torch::cuda::device_count()) {
    return absl::FailedPreconditionError(
        StrCat("device cuda: rank ", ranks.rank, " needs a GPU of its own, number ",
               ranks.local_rank, ", and there are ", torch::cuda::device_count()));
  }
  return torch::Device(torch::kCUDA, static_cast<c10::DeviceIndex>(ranks.local_rank));
}

torch::ScalarType ProductsOn(torch::Device device, bool bf16) {
  const bool has = device.is_cuda() || kernels::ActiveIsa() >= kernels::Isa::kAvx512Bf16;
  return bf16 && has ? torch::kBFloat16 : torch::kFloat;
}

std::string DeviceName(torch::Device device, torch::ScalarType products) {
  const std::string_view precision = products == torch::kBFloat16 ? " bf16" : " fp32";
  if (device.is_cuda()) return StrCat("cuda:", device.index(), precision);
  return StrCat("cpu/", kernels::IsaName(kernels::ActiveIsa()), precision);
}

int UseThreads(int wanted) {
  const int threads =
      wanted > 0 ? wanted : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  torch::set_num_threads(threads);
  // A step's large temporaries come back each step: giving their pages to the system and fetching
  // them anew costs a sixth of the time.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 2'000'000'000);
  return threads;
}

absl::Status SaveTensors(const std::string& directory, const NamedTensors& saved, int64_t steps) {
  std::vector<Tensor> copies;
  std::vector<tensors::Tensor> list;
  for (const auto& [name, value] : saved) {
    copies.push_back(value.detach().to(torch::kCPU).contiguous());
    const Tensor& copy = copies.back();
    list.push_back({.name = name,
                    .dtype = tensors::DType::kF32,
                    .shape = copy.sizes().vec(),
                    .data = {static_cast<const std::byte*>(copy.const_data_ptr()),
                             static_cast<size_t>(copy.nbytes())}});
  }
  return tensors::WriteSafetensors(directory + "/learner.safetensors", list,
                                   {{"steps", StrCat(steps)}});
}

absl::StatusOr<int64_t> RestoreTensors(const std::string& directory, const NamedTensors& saved) {
  DS_ASSIGN_OR_RETURN(const tensors::TensorSet set,
                      tensors::ReadSafetensors(directory + "/learner.safetensors"));
  const torch::NoGradGuard no_gradients;
  for (const auto& [name, value] : saved) {
    const std::vector<int64_t> shape = value.sizes().vec();
    DS_ASSIGN_OR_RETURN(const tensors::Tensor* tensor, set.Require(name, shape));
    std::vector<float> values(value.numel());
    DS_RETURN_IF_ERROR(tensors::ToFloat(*tensor, values));
    Tensor target = value.detach();
    target.copy_(torch::from_blob(values.data(), shape, torch::kFloat));
  }
  int64_t steps = -1;
  const auto found = set.metadata().find("steps");
  if (found == set.metadata().end() || !absl::SimpleAtoi(found->second, &steps) || steps < 0) {
    return absl::InvalidArgumentError(
        StrCat(set.source(), ": expected the number of steps in its metadata"));
  }
  return steps;
}

}  // namespace dreamstate::training

// What the learners share: devices, errors of torch, tensors in checkpoints. Internal to
// core/training: shows torch types.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/strings.h"
#include "core/training/ranks.h"

namespace dreamstate::training {

// Exceptions of torch become statuses here and nowhere else.
template <typename Body>
auto Guarded(const Body& body) -> decltype(body()) {
  try {
    return body();
  } catch (const c10::OutOfMemoryError& error) {
    return absl::ResourceExhaustedError(StrCat("training: ", error.what_without_backtrace()));
  } catch (const c10::DistError& error) {
    return absl::UnavailableError(
        StrCat("training: the other ranks do not answer: ", error.what_without_backtrace()));
  } catch (const c10::Error& error) {
    return absl::InternalError(StrCat("training: ", error.what_without_backtrace()));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("training: no memory left");
  } catch (const std::runtime_error& error) {
    // What gloo throws.
    return absl::UnavailableError(StrCat("training: another rank is gone: ", error.what()));
  }
}

// "cpu" or "cuda". FAILED_PRECONDITION when the device is not there, INVALID_ARGUMENT for another
// name.
absl::StatusOr<torch::Device> ChooseDevice(const std::string& name, const Ranks& ranks);

// What matrix products run in: bf16 where it is wanted and the device has it, else fp32.
torch::ScalarType ProductsOn(torch::Device device, bool bf16);

// "cpu/avx512bf16 bf16", "cuda:0 bf16".
std::string DeviceName(torch::Device device, torch::ScalarType products);

// Torch computes on so many threads from now on, and malloc keeps its memory; 0 = every processor.
// Returns how many they are.
int UseThreads(int wanted);

// Tensors by name, as learner.safetensors of a checkpoint's directory holds them in fp32, and the
// optimiser's steps.
using NamedTensors = std::vector<std::pair<std::string, torch::Tensor>>;
absl::Status SaveTensors(const std::string& directory, const NamedTensors& saved, int64_t steps);
// Fills the tensors in and returns the steps. INVALID_ARGUMENT naming the tensor that does not fit.
absl::StatusOr<int64_t> RestoreTensors(const std::string& directory, const NamedTensors& saved);

}  // namespace dreamstate::training

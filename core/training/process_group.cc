#include "core/training/process_group.h"

#include <chrono>
#include <cstdlib>
#include <string_view>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <utility>
#include <vector>
#if DREAMSTATE_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include "core/base/strings.h"

namespace dreamstate::training {
namespace {

using torch::Tensor;

constexpr std::chrono::minutes kSilence(30);

class Group : public ProcessGroup {
 public:
  Group(c10::intrusive_ptr<c10d::Backend> backend, torch::Device device)
      : backend_(std::move(backend)), device_(device) {}

  void Sum(Tensor tensor) override {
    OnDevice(std::move(tensor),
             [this](std::vector<Tensor>& list) { return backend_->allreduce(list); });
  }
  void Broadcast(Tensor tensor) override {
    OnDevice(std::move(tensor),
             [this](std::vector<Tensor>& list) { return backend_->broadcast(list); });
  }

 private:
  template <typename Call>
  void OnDevice(Tensor tensor, const Call& call) {
    std::vector<Tensor> list = {tensor.to(device_)};
    call(list)->wait();
    if (tensor.device() != device_) tensor.copy_(list[0]);
  }

  c10::intrusive_ptr<c10d::Backend> backend_;
  torch::Device device_;  // where the backend wants its tensors
};

// Where the ranks find each other. torchrun's agent listens itself, and a restart must not see what
// an attempt before it left there.
c10::intrusive_ptr<c10d::Store> Meet(const Ranks& ranks) {
  const char* agent = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
  const bool by_agent = agent != nullptr && std::string_view(agent) == "True";
  c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(ranks.port);
  options.isServer = ranks.rank == 0 && !by_agent;
  options.numWorkers = static_cast<std::size_t>(ranks.size);
  auto store = c10::make_intrusive<c10d::TCPStore>(ranks.address, options);
  if (!by_agent) return store;
  const char* attempt = std::getenv("TORCHELASTIC_RESTART_COUNT");
  return c10::make_intrusive<c10d::PrefixStore>(
      StrCat("/dreamstate/attempt_", attempt == nullptr ? "0" : attempt), std::move(store));
}

}  // namespace

std::unique_ptr<ProcessGroup> JoinRanks(const Ranks& ranks, torch::Device device) {
  c10::intrusive_ptr<c10d::Store> store = Meet(ranks);
#if DREAMSTATE_NCCL
  if (device.is_cuda()) {
    auto nccl = c10d::ProcessGroupNCCL::Options::create();
    nccl->timeout = kSilence;
    return std::make_unique<Group>(c10::make_intrusive<c10d::ProcessGroupNCCL>(
                                       std::move(store), ranks.rank, ranks.size, std::move(nccl)),
                                   device);
  }
#endif
  auto gloo = c10d::ProcessGroupGloo::Options::create();
  gloo->timeout = kSilence;
  gloo->devices.push_back(c10d::ProcessGroupGloo::createDefaultDevice());
  return std::make_unique<Group>(c10::make_intrusive<c10d::ProcessGroupGloo>(
                                     std::move(store), ranks.rank, ranks.size, std::move(gloo)),
                                 torch::Device(torch::kCPU));
}

}  // namespace dreamstate::training

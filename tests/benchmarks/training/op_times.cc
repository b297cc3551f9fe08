#include "tests/benchmarks/training/op_times.h"

#include <ATen/record_function.h>

#include <chrono>
#include <memory>
#include <string_view>

namespace dreamstate::training {
namespace {

using Clock = std::chrono::steady_clock;

std::map<std::string, double>* g_times = nullptr;

struct Running : at::ObserverContext {
  Clock::time_point began;
  Running* outer;
  double inner = 0;  // seconds of the operations that it called
};
thread_local Running* t_running = nullptr;

const char* KindOf(std::string_view name) {
  const auto has = [name](std::string_view part) { return name.find(part) != name.npos; };
  if (has("Wkv7Function")) return "WKV backward";
  if (name == "Wkv7") return "WKV forward";
  if (has("NormShiftMix") || has("Wkv7Prepare") || has("Wkv7Finish") || has("SquaredRelu")) {
    return "fused elementwise";
  }
  if (has("mm") || has("linear") || has("matmul") || has("mkldnn")) return "matrix products";
  if (has("copy_") || has("_to_copy") || has("clone") || has("cat") || has("stack")) {
    return "copies and casts";
  }
  return "elementwise";
}

}  // namespace

void OpTimes::Begin() {
  static std::map<std::string, double> times;
  times.clear();
  g_times = &times;
  handle_ = at::addGlobalCallback(
      at::RecordFunctionCallback(
          [](const at::RecordFunction&) -> std::unique_ptr<at::ObserverContext> {
            auto running = std::make_unique<Running>();
            running->began = Clock::now();
            running->outer = t_running;
            t_running = running.get();
            return running;
          },
          [](const at::RecordFunction& function, at::ObserverContext* context) {
            auto* running = static_cast<Running*>(context);
            const double seconds =
                std::chrono::duration<double>(Clock::now() - running->began).count();
            (*g_times)[KindOf(function.name())] += seconds - running->inner;
            if (running->outer != nullptr) running->outer->inner += seconds;
            t_running = running->outer;
          })
          .scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION}));
}

std::map<std::string, double> OpTimes::End() {
  at::removeCallback(handle_);
  return *g_times;
}

}  // namespace dreamstate::training

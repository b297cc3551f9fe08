#include "server/inference/diffusion_loop.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "core/base/status.h"
#include "core/diffusion/torch_threads.h"
#include "server/inference/executor.h"

namespace dreamstate::server {

DiffusionLoop::DiffusionLoop(int threads, Metrics* metrics)
    : metrics_(*metrics), thread_([this, threads] { Loop(threads); }) {}

DiffusionLoop::~DiffusionLoop() {
  {
    MutexLock lock(mutex_);
    closing_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

absl::StatusOr<std::vector<state::State>> DiffusionLoop::Generate(
    std::shared_ptr<const StateDit> dit, std::span<const diffusion::StateRequest> requests,
    const diffusion::GenerateOptions& options, const Wanted& wanted) {
  if (requests.empty()) return std::vector<state::State>();
  Item item = {.dit = std::move(dit), .requests = requests, .options = &options, .wanted = &wanted};
  Wait(&item);
  DS_RETURN_IF_ERROR(item.status);
  return std::move(item.states);
}

absl::Status DiffusionLoop::Run(const std::function<absl::Status()>& work) {
  Item item;
  item.work = &work;
  Wait(&item);
  return item.status;
}

void DiffusionLoop::Wait(Item* item) {
  MutexLock lock(mutex_);
  queue_.push_back(item);
  metrics_.OnDiffusionQueue(static_cast<int64_t>(queue_.size()));
  changed_.NotifyAll();
  while (!item->done) changed_.Wait(mutex_);
}

bool DiffusionLoop::FitsWith(const Item& first, const Item& other) {
  return first.work == nullptr && other.work == nullptr && other.dit == first.dit &&
         other.options->mode == first.options->mode &&
         other.options->steps == first.options->steps &&
         other.options->solver == first.options->solver &&
         other.requests[0].noise == first.requests[0].noise;
}

std::vector<DiffusionLoop::Item*> DiffusionLoop::TakeBatch() {
  std::vector<Item*> batch = {queue_.front()};
  queue_.pop_front();
  size_t states = batch[0]->requests.size();
  for (auto next = queue_.begin(); next != queue_.end();) {
    if (FitsWith(*batch[0], **next) && states + (*next)->requests.size() <= kMaxBatch) {
      states += (*next)->requests.size();
      batch.push_back(*next);
      next = queue_.erase(next);
    } else {
      ++next;
    }
  }
  metrics_.OnDiffusionQueue(static_cast<int64_t>(queue_.size()));
  return batch;
}

void DiffusionLoop::RunBatch(const std::vector<Item*>& batch) {
  if (batch[0]->work != nullptr) {
    batch[0]->status = WithoutExceptions(*batch[0]->work);
    return;
  }
  std::vector<diffusion::StateRequest> requests;
  for (const Item* item : batch) {
    requests.insert(requests.end(), item->requests.begin(), item->requests.end());
  }
  requests.resize(std::max(requests.size(), std::bit_ceil(requests.size())), requests.back());
  diffusion::GenerateOptions options = *batch[0]->options;
  // A call that nobody waits for any more leaves; the batch ends with the last one.
  options.on_step = [&](int step, int steps) {
    bool any = false;
    for (Item* item : batch) {
      if (!item->status.ok()) continue;
      item->status = (*item->wanted)();
      if (!item->status.ok()) continue;
      any = true;
      if (item->options->on_step) item->options->on_step(step, steps);
    }
    return any;
  };
  const absl::Time start = absl::Now();
  absl::StatusOr<std::vector<state::State>> made =
      WithoutExceptions([&] { return batch[0]->dit->generator->Generate(requests, options); });
  if (!made.ok() && batch.size() > 1 && !absl::IsCancelled(made.status())) {
    // One call's fault is not the others'.
    for (Item* item : batch) RunBatch({item});
    return;
  }
  metrics_.OnDiffusionBatch(static_cast<int64_t>(requests.size()), options.steps,
                            absl::Now() - start);
  size_t at = 0;
  for (Item* item : batch) {
    if (item->status.ok()) {
      item->status = made.status();
      if (made.ok()) {
        const auto begin = made->begin() + static_cast<ptrdiff_t>(at);
        item->states.assign(
            std::make_move_iterator(begin),
            std::make_move_iterator(begin + static_cast<ptrdiff_t>(item->requests.size())));
      }
    }
    at += item->requests.size();
  }
}

void DiffusionLoop::Loop(int threads) {
  diffusion::SetTorchThreads(threads);
  for (;;) {
    std::vector<Item*> batch;
    {
      MutexLock lock(mutex_);
      while (queue_.empty() && !closing_) changed_.Wait(mutex_);
      if (queue_.empty()) return;
      batch = TakeBatch();
    }
    RunBatch(batch);
    MutexLock lock(mutex_);
    for (Item* item : batch) item->done = true;
    changed_.NotifyAll();
  }
}

}  // namespace dreamstate::server

#include "server/inference/decode_retry.h"

#include <utility>

#include "nlohmann/json.hpp"

namespace dreamstate::server {

absl::StatusOr<std::shared_ptr<DecodeRetry>> DecodeRetry::Begin(RequestMemory::Admission admission,
                                                                const Backbone& backbone,
                                                                uint64_t* seed) {
  auto retry = std::make_shared<DecodeRetry>();
  retry->turn_ = std::move(admission.turn);
  retry->replace_ = std::move(admission.replace);
  retry->backbone_ = backbone;
  MutexLock lock(retry->mutex_);
  if (!admission.answer.empty()) {
    // Our own writing.
    const nlohmann::json before = nlohmann::json::parse(admission.answer);
    *seed = before["seed"].get<uint64_t>();
    for (const auto& [branch, id] : before["states"].items()) {
      retry->states_[std::stoi(branch)] = id.get<std::string>();
    }
    const Backbone first = {before["fingerprint"].get<std::string>(),
                            before["numerics"].get<std::string>()};
    if (!retry->states_.empty() && first != backbone) {
      return absl::AbortedError(
          "save_state.request_id: the first call ran on another backbone or format, which does not "
          "serve any more; a retry would give another text than its states have read");
    }
  }
  retry->seed_ = *seed;
  if (retry->turn_ != nullptr) retry->turn_->Note(retry->Describe());
  return retry;
}

std::string DecodeRetry::Describe() const {
  nlohmann::json states = nlohmann::json::object();
  for (const auto& [branch, id] : states_) states[std::to_string(branch)] = id;
  return nlohmann::json({{"seed", seed_},
                         {"fingerprint", backbone_.fingerprint},
                         {"numerics", backbone_.numerics},
                         {"states", std::move(states)}})
      .dump();
}

std::string DecodeRetry::Known(int branch) const {
  MutexLock lock(mutex_);
  const auto state = states_.find(branch);
  return state == states_.end() ? std::string() : state->second;
}

void DecodeRetry::Saved(int branch, const std::string& id) {
  MutexLock lock(mutex_);
  std::string& state = states_[branch];
  const bool is_new = state != id;
  state = id;
  if (turn_ != nullptr) {
    turn_->Note(Describe());
  } else if (is_new && replace_) {
    replace_(Describe());
  }
}

void DecodeRetry::Succeeded() {
  std::shared_ptr<RequestMemory::Turn> turn;
  std::string answer;
  {
    MutexLock lock(mutex_);
    turn.swap(turn_);
    answer = Describe();
  }
  // Others that wait go on from here, on this thread.
  if (turn != nullptr) turn->Remember(std::move(answer));
}

}  // namespace dreamstate::server

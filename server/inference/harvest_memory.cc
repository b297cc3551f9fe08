#include "server/inference/harvest_memory.h"

#include <algorithm>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::server {
namespace {

constexpr absl::Duration kRetryAfter = absl::Seconds(1);

}  // namespace

absl::StatusOr<std::shared_ptr<HarvestMemory::Lease>> HarvestMemory::Open(
    const std::string& request_id, const std::string& options_sha256) {
  MutexLock lock(mutex_);
  if (streams_ >= limits_.max_harvest_streams) {
    return QuotaError("harvest streams", StrCat(streams_, " run already"), kRetryAfter);
  }
  if (!request_id.empty()) {
    const auto [entry, is_new] = requests_.try_emplace(request_id);
    Request& request = entry->second;
    if (request.running) {
      return UnavailableError(StrCat("a stream with request_id \"", request_id, "\" still runs"),
                              kRetryAfter);
    }
    if (is_new) {
      request.options_sha256 = options_sha256;
      request.size = 1;
      size_ += 1;
    } else if (request.options_sha256 != options_sha256) {
      return ResourceError(absl::StatusCode::kAlreadyExists, "request_id", request_id,
                           "was used with other options");
    }
    request.running = true;
    request.last_use = ++uses_;
    Forget();
  }
  ++streams_;
  return std::make_shared<Lease>(shared_from_this(), request_id);
}

void HarvestMemory::Forget() {
  while (size_ > limits_.remembered_states) {
    auto oldest = requests_.end();
    for (auto it = requests_.begin(); it != requests_.end(); ++it) {
      if (it->second.running) continue;
      if (oldest == requests_.end() || it->second.last_use < oldest->second.last_use) oldest = it;
    }
    if (oldest == requests_.end()) return;
    size_ -= oldest->second.size;
    requests_.erase(oldest);
  }
}

HarvestMemory::Lease::Lease(std::shared_ptr<HarvestMemory> memory, std::string request_id)
    : memory_(std::move(memory)), request_id_(std::move(request_id)) {}

HarvestMemory::Lease::~Lease() {
  MutexLock lock(memory_->mutex_);
  --memory_->streams_;
  const auto request = memory_->requests_.find(request_id_);
  if (request != memory_->requests_.end()) request->second.running = false;
  memory_->Forget();
}

absl::Status HarvestMemory::Lease::MakeWith(const std::string& fingerprint,
                                            const std::string& numerics) {
  if (request_id_.empty()) return absl::OkStatus();
  MutexLock lock(memory_->mutex_);
  Request& request = memory_->requests_[request_id_];
  const bool made_any = std::ranges::any_of(
      request.documents, [](const auto& document) { return !document.second.states.empty(); });
  if (made_any && (request.fingerprint != fingerprint || request.numerics != numerics)) {
    return absl::AbortedError(
        "options.request_id: the first stream ran on another backbone or format, which does not "
        "serve any more; a retry would mix its states with others");
  }
  request.fingerprint = fingerprint;
  request.numerics = numerics;
  return absl::OkStatus();
}

absl::StatusOr<std::map<int64_t, std::string>> HarvestMemory::Lease::Recall(
    const std::string& document_id, const std::string& content_sha256) {
  std::map<int64_t, std::string> none;
  if (request_id_.empty()) return none;
  MutexLock lock(memory_->mutex_);
  Request& request = memory_->requests_[request_id_];
  const auto found = request.documents.find(document_id);
  if (found != request.documents.end()) {
    if (found->second.content_sha256 == content_sha256) return found->second.states;
    return ResourceError(absl::StatusCode::kAlreadyExists, "document", document_id,
                         StrCat("request_id \"", request_id_, "\" was used with another document"));
  }
  // A stream of its own cannot be forgotten: beyond the bound it is not remembered.
  if (request.size >= memory_->limits_.remembered_states) return none;
  request.documents[document_id].content_sha256 = content_sha256;
  ++request.size;
  ++memory_->size_;
  memory_->Forget();
  return none;
}

void HarvestMemory::Lease::Remember(const std::string& document_id, int64_t position,
                                    const std::string& state_id) {
  if (request_id_.empty()) return;
  MutexLock lock(memory_->mutex_);
  Request& request = memory_->requests_[request_id_];
  const auto document = request.documents.find(document_id);
  if (document == request.documents.end()) return;
  if (!document->second.states.insert_or_assign(position, state_id).second) return;
  ++request.size;
  ++memory_->size_;
  memory_->Forget();
}

}  // namespace dreamstate::server

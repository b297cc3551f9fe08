#include "server/inference/request_memory.h"

#include <optional>

#include "absl/time/time.h"
#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::server {
namespace {

constexpr absl::Duration kRetryAfter = absl::Seconds(1);

}  // namespace

void RequestMemory::Enter(const Key& key, const std::string& content_sha256, Admitted admitted,
                          Gone gone) {
  if (key.request_id.size() > limits_.request_id_bytes) {
    admitted(FieldError("request_id", StrCat("expected at most ", limits_.request_id_bytes,
                                             " bytes, found ", key.request_id.size())));
    return;
  }
  if (key.request_id.empty()) {
    admitted(Admission{.turn = std::make_shared<Turn>(std::weak_ptr<RequestMemory>(), key),
                       .answer = {},
                       .replace = {}});
    return;
  }
  std::optional<absl::StatusOr<Admission>> result;
  {
    MutexLock lock(mutex_);
    const auto [entry, is_new] = calls_.try_emplace(key);
    Call& call = entry->second;
    if (is_new) {
      call.content_sha256 = content_sha256;
      result = Admission{
          .turn = std::make_shared<Turn>(weak_from_this(), key), .answer = {}, .replace = {}};
    } else if (call.content_sha256 != content_sha256) {
      result = ResourceError(absl::StatusCode::kAlreadyExists, "request_id", key.request_id,
                             "was used with other content");
    } else if (!call.running && call.failed) {
      bytes_ -= BytesOf(key, call);
      by_use_.erase(call.use);
      call.running = true;
      call.failed = false;
      result = Admission{.turn = std::make_shared<Turn>(weak_from_this(), key),
                         .answer = call.answer,
                         .replace = {}};
    } else if (!call.running) {
      by_use_.splice(by_use_.begin(), by_use_, call.use);
      result = AnswerOf(key, call);
    } else if (call.waiting.size() >= limits_.waiting) {
      result = UnavailableError(
          StrCat("a call with request_id \"", key.request_id, "\" still runs, and ",
                 call.waiting.size(), " retries wait for it"),
          kRetryAfter);
    } else if (gone != nullptr && gone->load(std::memory_order_relaxed)) {
      result = absl::CancelledError("the caller is gone");
    } else {
      call.waiting.push_back({std::move(admitted), std::move(gone)});
    }
  }
  if (result) admitted(*std::move(result));
}

void RequestMemory::Withdraw(const Key& key, const std::atomic<bool>& gone,
                             const absl::Status& status) {
  std::deque<Waiter> withdrawn;
  {
    MutexLock lock(mutex_);
    const auto entry = calls_.find(key);
    if (entry == calls_.end()) return;
    std::deque<Waiter> stay;
    for (Waiter& waiter : entry->second.waiting) {
      (waiter.gone.get() == &gone ? withdrawn : stay).push_back(std::move(waiter));
    }
    entry->second.waiting.swap(stay);
  }
  for (const Waiter& waiter : withdrawn) waiter.admitted(status);
}

void RequestMemory::End(const Key& key, const std::string* answer) {
  std::deque<Waiter> waiting;
  Admission admission;
  {
    MutexLock lock(mutex_);
    const auto entry = calls_.find(key);
    if (entry == calls_.end() || !entry->second.running) return;
    Call& call = entry->second;
    if (answer != nullptr) {
      waiting.swap(call.waiting);
      call.answer = *answer;
      admission = AnswerOf(key, call);
      Keep(entry->first, call);
    } else if (!call.waiting.empty()) {
      waiting.push_back(std::move(call.waiting.front()));
      call.waiting.pop_front();
      admission = {.turn = std::make_shared<Turn>(weak_from_this(), key),
                   .answer = call.answer,
                   .replace = {}};
    } else if (!call.answer.empty()) {
      call.failed = true;
      Keep(entry->first, call);
    } else {
      calls_.erase(entry);
    }
  }
  for (const Waiter& waiter : waiting) waiter.admitted(admission);
}

RequestMemory::Admission RequestMemory::AnswerOf(const Key& key, const Call& call) {
  return {.turn = nullptr,
          .answer = call.answer,
          .replace = [memory = weak_from_this(), key,
                      content_sha256 = call.content_sha256](std::string answer) {
            if (const std::shared_ptr<RequestMemory> held = memory.lock()) {
              held->Replace(key, content_sha256, std::move(answer));
            }
          }};
}

void RequestMemory::Replace(const Key& key, const std::string& content_sha256, std::string answer) {
  MutexLock lock(mutex_);
  const auto entry = calls_.find(key);
  if (entry == calls_.end()) return;
  Call& call = entry->second;
  // The key may be another call's by now.
  if (call.running || call.failed || call.content_sha256 != content_sha256) return;
  bytes_ -= BytesOf(key, call);
  call.answer = std::move(answer);
  bytes_ += BytesOf(key, call);
  Forget();
}

void RequestMemory::Keep(const Key& key, Call& call) {
  call.running = false;
  by_use_.push_front(&key);
  call.use = by_use_.begin();
  bytes_ += BytesOf(key, call);
  Forget();
}

void RequestMemory::Note(const Key& key, std::string part) {
  MutexLock lock(mutex_);
  const auto entry = calls_.find(key);
  if (entry != calls_.end() && entry->second.running) entry->second.answer = std::move(part);
}

void RequestMemory::Forget() {
  while (!by_use_.empty() && (by_use_.size() > limits_.calls || bytes_ > limits_.bytes)) {
    const auto oldest = calls_.find(*by_use_.back());
    bytes_ -= BytesOf(oldest->first, oldest->second);
    by_use_.pop_back();
    calls_.erase(oldest);
  }
}

int64_t RequestMemory::BytesOf(const Key& key, const Call& call) {
  return static_cast<int64_t>(key.tenant.size() + key.method.size() + key.request_id.size() +
                              call.content_sha256.size() + call.answer.size() + sizeof(Call));
}

RequestMemory::Turn::~Turn() {
  // Once it has ended, the key may be another call's.
  if (ended_) return;
  if (const std::shared_ptr<RequestMemory> memory = memory_.lock()) memory->End(key_, nullptr);
}

void RequestMemory::Turn::Note(std::string part) {
  if (const std::shared_ptr<RequestMemory> memory = memory_.lock()) {
    memory->Note(key_, std::move(part));
  }
}

void RequestMemory::Turn::Remember(std::string answer) {
  ended_ = true;
  if (const std::shared_ptr<RequestMemory> memory = memory_.lock()) memory->End(key_, &answer);
}

}  // namespace dreamstate::server

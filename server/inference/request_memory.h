// Makes a call with a request_id happen once: remembers the answers of those that succeeded, so
// that a retry gets the first call's answer, and lets one call a key work at a time, so that a
// retry which comes while the first still runs waits for its end. Lasts as long as the process and
// is bounded: the answers used longest ago are forgotten first. What an answer is, is the caller's
// business: a serialised response, or the ids of the states that were made. Thread-safe; lives in a
// shared_ptr.
//
//   memory->Enter({kTenant, "DeleteState", request.request_id()}, Sha256Hex(bytes_of_request),
//                 [=](absl::StatusOr<RequestMemory::Admission> admission) {
//                   if (!admission.ok()) return Finish(admission.status());
//                   if (admission->turn == nullptr) return FinishWith(admission->answer);
//                   Work(...);                      // keeps the turn until it has ended
//                   admission->turn->Remember(answer);  // only when it succeeded
//                 });
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "absl/status/statusor.h"
#include "core/base/mutex.h"

namespace dreamstate::server {

class RequestMemory : public std::enable_shared_from_this<RequestMemory> {
 public:
  struct Limits {
    // Of remembered calls: their number, and the bytes of their keys and answers.
    size_t calls = 65'536;
    int64_t bytes = int64_t{32} << 20;
    // Retries that may wait for one running call.
    size_t waiting = 16;
    size_t request_id_bytes = 128;
  };
  struct Key {
    std::string tenant;
    std::string method;
    std::string request_id;  // empty: the call is like no other, and nothing is remembered

    friend auto operator<=>(const Key&, const Key&) = default;
  };

  // The right to do a call's work, held by one call a key until its work has ended, well or not.
  // The memory may die before it.
  class Turn {
   public:
    Turn(std::weak_ptr<RequestMemory> memory, Key key)
        : memory_(std::move(memory)), key_(std::move(key)) {}
    // Without Remember: the call failed, and the next that waits does the work.
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

    // What the call has made so far. If it fails in the end, the next one begins with the last of
    // these beside its turn. Not after Remember.
    void Note(std::string part);
    // The call succeeded: `answer` is given to those that wait and to later retries. Once.
    void Remember(std::string answer);

   private:
    const std::weak_ptr<RequestMemory> memory_;
    const Key key_;
    bool ended_ = false;
  };

  struct Admission {
    std::shared_ptr<Turn> turn;  // null: the call happened before, with this answer
    std::string answer;          // beside a turn: what a call that failed has noted, if anything
    // Without a turn: gives later retries another answer. Nothing once the first is forgotten.
    std::function<void(std::string answer)> replace;
  };
  using Admitted = std::function<void(absl::StatusOr<Admission>)>;
  // Set once the caller is gone, before Withdraw; knows a caller from others.
  using Gone = std::shared_ptr<const std::atomic<bool>>;

  RequestMemory() : RequestMemory(Limits()) {}
  explicit RequestMemory(const Limits& limits) : limits_(limits) {}

  // Calls `admitted` once: before this returns, or, while another call of this key and content
  // runs, at that one's end and on its thread, so it must neither block nor throw. INVALID_ARGUMENT
  // ("request_id") for an id that is too long, ALREADY_EXISTS when the key was used, or is being
  // used, with other content; UNAVAILABLE when too many wait already.
  // CANCELLED instead of waiting when the caller is gone (null: it never is).
  void Enter(const Key& key, const std::string& content_sha256, Admitted admitted,
             Gone gone = nullptr);
  // Those of this caller that wait for the key's turn wait no more: they are told `status`, on this
  // thread. The flag is set already, so that none begins to wait afterwards.
  void Withdraw(const Key& key, const std::atomic<bool>& gone, const absl::Status& status);

 private:
  struct Waiter {
    Admitted admitted;
    Gone gone;
  };
  struct Call {
    std::string content_sha256;
    bool running = true;
    bool failed = false;                  // with `answer` noted
    std::deque<Waiter> waiting;           // while it runs
    std::string answer;                   // what was noted, while it runs
    std::list<const Key*>::iterator use;  // afterwards, in by_use_
  };

  void Note(const Key& key, std::string part);
  void End(const Key& key, const std::string* answer);
  void Replace(const Key& key, const std::string& content_sha256, std::string answer);
  Admission AnswerOf(const Key& key, const Call& call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Remembers what has ended.
  void Keep(const Key& key, Call& call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Makes room: forgets the answers used longest ago.
  void Forget() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static int64_t BytesOf(const Key& key, const Call& call);

  const Limits limits_;
  Mutex mutex_;
  std::map<Key, Call> calls_ ABSL_GUARDED_BY(mutex_);
  // Of remembered calls, used most recently first; points into calls_.
  std::list<const Key*> by_use_ ABSL_GUARDED_BY(mutex_);
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace dreamstate::server

// Remembers which states the harvests with a request_id made, so that a retry answers with them
// instead of making them again. Lasts as long as the process and is bounded: the requests used
// longest ago are forgotten first. Also bounds how many harvest streams run at once. Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/mutex.h"
#include "server/inference/request_limits.h"

namespace dreamstate::server {

class HarvestMemory : public std::enable_shared_from_this<HarvestMemory> {
 public:
  explicit HarvestMemory(const RequestLimits& limits) : limits_(limits) {}

  // One stream's place and its part of the memory; gives the place back when it dies. May outlive
  // its stream, by the writes that are still on their way.
  class Lease {
   public:
    Lease(std::shared_ptr<HarvestMemory> memory, std::string request_id);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;

    // What the stream's states are made by, before any of them is. ABORTED when states that another
    // backbone or other numerics made are remembered: a retry would answer with both.
    absl::Status MakeWith(const std::string& fingerprint, const std::string& numerics);
    // The states that are remembered of a document: position -> id. ALREADY_EXISTS when it was
    // another document.
    absl::StatusOr<std::map<int64_t, std::string>> Recall(const std::string& document_id,
                                                          const std::string& content_sha256);
    void Remember(const std::string& document_id, int64_t position, const std::string& state_id);

   private:
    const std::shared_ptr<HarvestMemory> memory_;
    const std::string request_id_;
  };

  // RESOURCE_EXHAUSTED when too many streams run; with a request_id (empty = none): ALREADY_EXISTS
  // when it was used with other options, UNAVAILABLE while another stream runs under it.
  absl::StatusOr<std::shared_ptr<Lease>> Open(const std::string& request_id,
                                              const std::string& options_sha256);

 private:
  struct Document {
    std::string content_sha256;
    std::map<int64_t, std::string> states;
  };
  struct Request {
    std::string options_sha256;
    std::string fingerprint, numerics;  // of what made the states
    bool running = false;
    uint64_t last_use = 0;
    std::map<std::string, Document> documents;
    int64_t size = 0;  // documents and states
  };
  void Forget() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const RequestLimits limits_;
  Mutex mutex_;
  int streams_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t uses_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t size_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, Request> requests_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dreamstate::server

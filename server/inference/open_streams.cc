#include "server/inference/open_streams.h"

#include <vector>

namespace dreamstate::server {

OpenStreams::OpenStreams(absl::Duration interval) : interval_(interval) {
  if (interval > absl::ZeroDuration()) thread_ = std::thread([this] { Run(); });
}

OpenStreams::~OpenStreams() {
  {
    MutexLock lock(mutex_);
    closing_ = true;
  }
  changed_.NotifyAll();
  if (thread_.joinable()) thread_.join();
}

void OpenStreams::Add(OpenStream* stream) {
  bool visit = false;
  {
    MutexLock lock(mutex_);
    streams_.insert(stream);
    visit = draining_ && stream->BeginVisit();
  }
  if (visit) stream->EndVisit(true);
}

void OpenStreams::Remove(OpenStream* stream) {
  MutexLock lock(mutex_);
  streams_.erase(stream);
}

void OpenStreams::VisitAll() {
  std::vector<OpenStream*> visited;
  bool draining = false;
  {
    MutexLock lock(mutex_);
    draining = draining_;
    for (OpenStream* stream : streams_) {
      if (stream->BeginVisit()) visited.push_back(stream);
    }
  }
  for (OpenStream* stream : visited) stream->EndVisit(draining);
}

void OpenStreams::BeginDrain() {
  {
    MutexLock lock(mutex_);
    draining_ = true;
  }
  VisitAll();
}

void OpenStreams::Run() {
  while (true) {
    {
      MutexLock lock(mutex_);
      if (closing_) return;
      changed_.WaitFor(mutex_, interval_);
      if (closing_) return;
    }
    VisitAll();
  }
}

}  // namespace dreamstate::server

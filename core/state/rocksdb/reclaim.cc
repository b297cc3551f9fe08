#include "core/state/rocksdb/reclaim.h"

#include <algorithm>
#include <utility>

namespace dreamstate::state {
namespace {

int64_t Property(const Database::Use& use, const std::string& name) {
  uint64_t value = 0;
  if (!use->db->GetIntProperty(use->records, name, &value)) return 0;
  return static_cast<int64_t>(value);
}

}  // namespace

Reclaimer::Reclaimer(Database* database, int64_t threshold_bytes,
                     std::function<int64_t()> live_bytes,
                     std::function<void(const Database::Use&)> check_records)
    : database_(database),
      threshold_bytes_(threshold_bytes),
      live_bytes_(std::move(live_bytes)),
      check_records_(std::move(check_records)),
      thread_([this] { Run(); }) {}

Reclaimer::~Reclaimer() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    if (running_ != nullptr) running_->closing = true;
    wake_.NotifyAll();
  }
  thread_.join();
}

void Reclaimer::Deleted(int64_t bytes) {
  MutexLock lock(mutex_);
  deleted_bytes_ += bytes;
  if (deleted_bytes_ >= threshold_bytes_) wake_.NotifyAll();
}

void Reclaimer::Run() {
  for (;;) {
    int64_t deleted = 0;
    {
      MutexLock lock(mutex_);
      while (!stopping_ &&
             (deleted_bytes_ < threshold_bytes_ || deleted_bytes_ < live_bytes_() / 4)) {
        wake_.Wait(mutex_);
      }
      if (stopping_) return;
      deleted = std::exchange(deleted_bytes_, 0);
    }
    absl::StatusOr<Database::Use> use = database_->ForReading();
    // With a database that cannot be used the space is looked for after the next deletions.
    if (!use.ok()) continue;
    {
      MutexLock lock(mutex_);
      if (stopping_) return;
      running_ = *use;
    }
    Reclaim(*use);
    MutexLock lock(mutex_);
    running_ = nullptr;
    // Interrupted by a reopening: what was not done is still to do.
    if ((*use)->closing) deleted_bytes_ += deleted;
  }
}

// Failures are met again, and told, by whoever writes next.
void Reclaimer::Reclaim(const Database::Use& use) {
  rocksdb::CompactRangeOptions options;
  options.canceled = &use->closing;
  options.exclusive_manual_compaction = false;
  if (!use->db->Flush(rocksdb::FlushOptions(), use->records).ok()) return;
  if (!use->db->CompactRange(options, use->records, nullptr, nullptr).ok()) return;

  const int64_t wasted = Property(use, rocksdb::DB::Properties::kLiveBlobFileGarbageSize);
  const int64_t needed = Property(use, rocksdb::DB::Properties::kLiveBlobFileSize) - wasted;
  if (wasted < threshold_bytes_ || wasted < needed / 2) return;
  // The new files are written before the old ones go.
  const int64_t free = database_->directory().FreeBytes();
  if (free < needed / 4 + threshold_bytes_) return;
  check_records_(use);
  if (use->closing) return;
  options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForce;
  options.blob_garbage_collection_policy = rocksdb::BlobGarbageCollectionPolicy::kForce;
  // As large a part of the files, oldest first, as there is room for.
  options.blob_garbage_collection_age_cutoff = free > needed + threshold_bytes_ ? 1.0 : 0.25;
  use->db->CompactRange(options, use->records, nullptr, nullptr).PermitUncheckedError();
}

}  // namespace dreamstate::state

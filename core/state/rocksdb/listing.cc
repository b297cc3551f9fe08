#include "core/state/rocksdb/listing.h"

#include <utility>

#include "core/state/identifier.h"
#include "core/state/rocksdb/keys.h"

namespace dreamstate::state {

IdStream::IdStream(rocksdb::DB* db, rocksdb::ColumnFamilyHandle* family,
                   const rocksdb::Snapshot* snapshot, std::string prefix, bool oldest_first)
    : prefix_(std::move(prefix)),
      end_(EndOfPrefix(prefix_)),
      lower_(prefix_),
      upper_(end_),
      oldest_first_(oldest_first) {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  options.iterate_lower_bound = &lower_;
  options.iterate_upper_bound = &upper_;
  iterator_.reset(db->NewIterator(options, family));
}

void IdStream::SeekToStart() {
  if (oldest_first_) {
    iterator_->SeekToFirst();
  } else {
    iterator_->SeekToLast();
  }
}

void IdStream::SeekTo(std::string_view id) {
  const std::string key = prefix_ + std::string(id);
  if (oldest_first_) {
    iterator_->Seek(key);
  } else {
    iterator_->SeekForPrev(key);
  }
}

void IdStream::Next() {
  if (oldest_first_) {
    iterator_->Next();
  } else {
    iterator_->Prev();
  }
}

std::string_view IdStream::id() const {
  const rocksdb::Slice key = iterator_->key();
  return std::string_view(key.data(), key.size()).substr(prefix_.size());
}

CommonIds::CommonIds(std::vector<std::unique_ptr<IdStream>> streams, bool oldest_first,
                     std::string start, int max_steps)
    : streams_(std::move(streams)),
      oldest_first_(oldest_first),
      examined_(std::move(start)),
      steps_(max_steps) {
  for (const auto& stream : streams_) {
    if (examined_.empty()) {
      stream->SeekToStart();
    } else {
      stream->SeekTo(examined_);
      if (stream->valid() && stream->id() == examined_) stream->Next();
    }
  }
}

bool CommonIds::Next() {
  // The last common id is done with: at least one stream has to leave it.
  if (!target_.empty()) {
    examined_ = std::exchange(target_, {});
    if (streams_.front()->valid() && streams_.front()->id() == examined_) {
      streams_.front()->Next();
      --steps_;
    }
  }
  if (steps_ <= 0 || !streams_.front()->valid()) return false;
  std::string candidate(streams_.front()->id());
  size_t agreeing = 1;
  for (size_t next = 1 % streams_.size(); agreeing < streams_.size();
       next = (next + 1) % streams_.size()) {
    if (steps_ <= 0) return false;
    IdStream& stream = *streams_[next];
    // The neighbour is often the one; a seek costs much more.
    for (int tries = 0; tries < 2 && stream.valid() && Before(stream.id(), candidate); ++tries) {
      if (tries == 0) {
        stream.Next();
      } else {
        stream.SeekTo(candidate);
      }
      --steps_;
    }
    if (!stream.valid()) return false;
    if (stream.id() == candidate) {
      ++agreeing;
    } else {
      examined_ = std::exchange(candidate, std::string(stream.id()));
      agreeing = 1;
    }
  }
  target_ = std::move(candidate);
  return true;
}

rocksdb::Status CommonIds::status() const {
  for (const auto& stream : streams_) {
    if (!stream->status().ok()) return stream->status();
  }
  return rocksdb::Status::OK();
}

}  // namespace dreamstate::state

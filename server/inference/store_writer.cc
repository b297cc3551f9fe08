#include "server/inference/store_writer.h"

#include <utility>

#include "core/base/status.h"
#include "server/inference/state_messages.h"

namespace dreamstate::server {

void StoreWriter::Replies::Add(Reply reply) {
  {
    MutexLock lock(mutex);
    list.push_back(std::move(reply));
  }
  waker->Wake();
}

StoreWriter::StoreWriter(const ServingContext& context, std::shared_ptr<Waker> waker)
    : context_(context), replies_(std::make_shared<Replies>()) {
  replies_->waker = std::move(waker);
}

void StoreWriter::Put(int tag, state::Record record, std::vector<int32_t> tokens, bool keep_tokens,
                      const state::Annotations& annotations,
                      std::function<void(const state::Description&)> stored,
                      const std::string& known) {
  ++outstanding_;
  auto write = [replies = replies_, store = context_.store, clock = context_.clock, tag,
                record = std::make_shared<state::Record>(std::move(record)),
                tokens = std::move(tokens), keep_tokens, annotations, known,
                stored = std::move(stored)]() mutable {
    const absl::Time start = clock->Now();
    absl::StatusOr<state::Description> description =
        WithoutExceptions([&]() -> absl::StatusOr<state::Description> {
          if (!known.empty()) {
            absl::StatusOr<state::Description> before = store->Describe(kTenant, known);
            // One that was deleted meanwhile is made again.
            if (before.ok() ? !before->deleted : !absl::IsNotFound(before.status())) return before;
          }
          record->lineage.tokens_read = static_cast<int64_t>(tokens.size());
          record->lineage.tokens_sha256 = state::TokensSha256(tokens);
          if (keep_tokens) record->lineage.kept_tokens = std::move(tokens);
          return store->Put(kTenant, std::move(*record), annotations);
        });
    if (stored && description.ok()) stored(*description);
    stored = nullptr;  // what it holds is let go before the answer is known
    replies->Add({tag, std::move(description), clock->Now() - start});
  };
  if (!context_.executor->TrySubmit(std::move(write))) {
    replies_->Add({tag, QuotaError("state store queue", "too many states wait to be stored", {}),
                   absl::ZeroDuration()});
  }
}

std::vector<StoreWriter::Reply> StoreWriter::Take() {
  std::vector<Reply> taken;
  if (outstanding_ == 0) return taken;
  MutexLock lock(replies_->mutex);
  taken.swap(replies_->list);
  outstanding_ -= static_cast<int>(taken.size());
  return taken;
}

}  // namespace dreamstate::server

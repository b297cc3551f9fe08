// Sources of windows that know no documents: uniform, and RWKV-LM's.
#include <cmath>
#include <utility>

#include "core/base/draws.h"
#include "core/base/status.h"
#include "core/training/source_position.h"
#include "core/training/sources.h"

namespace dreamstate::training {
namespace {

// Windows of tokens + 1 consecutive tokens of a stream; subclasses say where they begin.
class StreamSource : public BatchSource {
 public:
  StreamSource(std::shared_ptr<const Corpus> corpus, const BatchShape& shape)
      : corpus_(std::move(corpus)), shape_(shape) {}

  int bank_slots() const override { return 0; }
  absl::StatusOr<Batch> Next() override {
    Batch batch = {.rows = shape_.rows, .tokens = shape_.tokens};
    batch.row.resize(shape_.rows);
    const std::span<const uint16_t> tokens = corpus_->tokens(Split::kTrain);
    for (int row = 0; row < shape_.rows; ++row) {
      const int64_t begin = Begin(step_, row);
      for (int t = 0; t < shape_.tokens; ++t) {
        batch.inputs.push_back(tokens[begin + t]);
        batch.targets.push_back(tokens[begin + t + 1]);
      }
    }
    ++step_;
    DS_RETURN_IF_ERROR(corpus_->CheckNothingLost());
    return batch;
  }
  std::string Save() const override { return SaveStep(step_); }
  absl::Status Restore(const std::string& position) override {
    return RestoreStep(position, &step_);
  }

 protected:
  virtual int64_t Begin(int64_t step, int row) const = 0;
  int64_t stream_tokens() const {
    return static_cast<int64_t>(corpus_->tokens(Split::kTrain).size());
  }
  const BatchShape& shape() const { return shape_; }

 private:
  std::shared_ptr<const Corpus> corpus_;
  BatchShape shape_;
  int64_t step_ = 0;
};

class UniformSource : public StreamSource {
 public:
  UniformSource(std::shared_ptr<const Corpus> corpus, const BatchShape& shape, uint64_t seed)
      : StreamSource(std::move(corpus), shape), seed_(seed) {}

 protected:
  int64_t Begin(int64_t step, int row) const override {
    Draws draws(seed_, static_cast<uint32_t>(step), static_cast<uint32_t>(row));
    return draws.Below(static_cast<uint32_t>(stream_tokens() - shape().tokens));
  }

 private:
  uint64_t seed_;
};

class RwkvLmSource : public StreamSource {
 public:
  using StreamSource::StreamSource;

 protected:
  int64_t Begin(int64_t step, int row) const override {
    return RwkvLmOffset(stream_tokens(), shape().tokens, 1 + step * shape().rows + row);
  }
};

bool IsPrime(int64_t n) {
  if (n < 2) return false;
  for (int64_t i = 2; i * i <= n; ++i) {
    if (n % i == 0) return false;
  }
  return true;
}

absl::Status CheckLongEnough(const Corpus& corpus, const BatchShape& shape) {
  const auto tokens = static_cast<int64_t>(corpus.tokens(Split::kTrain).size());
  if (shape.rows < 1 || shape.tokens < 1 || tokens <= shape.tokens || tokens > UINT32_MAX) {
    return absl::InvalidArgumentError(StrCat("data: expected a training split of more than ",
                                             shape.tokens,
                                             " tokens and at most 4,294,967,295, found ", tokens));
  }
  return absl::OkStatus();
}

}  // namespace

int64_t MagicPrime(int64_t tokens, int64_t context) {
  for (int64_t p = tokens / context - 2; p > 1; --p) {
    if (p % 3 == 2 && IsPrime(p)) return p;
  }
  return 0;
}

int64_t RwkvLmOffset(int64_t tokens, int64_t context, int64_t ii) {
  const int64_t prime = MagicPrime(tokens, context);
  const auto factor = static_cast<int64_t>(prime * (std::sqrt(5.0) - 1) / 2);
  __extension__ using Wide = unsigned __int128;
  const auto by = [prime](Wide a, Wide b) { return static_cast<int64_t>(a * b % prime); };
  const int64_t i = ii % prime;
  return by(by(by(i, i), i), factor) * context;
}

absl::StatusOr<std::unique_ptr<BatchSource>> MakeUniformSource(std::shared_ptr<const Corpus> corpus,
                                                               const BatchShape& shape,
                                                               uint64_t seed) {
  if (absl::Status status = CheckLongEnough(*corpus, shape); !status.ok()) return status;
  return std::unique_ptr<BatchSource>(
      std::make_unique<UniformSource>(std::move(corpus), shape, seed));
}

absl::StatusOr<std::unique_ptr<BatchSource>> MakeRwkvLmSource(std::shared_ptr<const Corpus> corpus,
                                                              const BatchShape& shape) {
  if (absl::Status status = CheckLongEnough(*corpus, shape); !status.ok()) return status;
  const auto tokens = static_cast<int64_t>(corpus->tokens(Split::kTrain).size());
  if (MagicPrime(tokens, shape.tokens) == 0) {
    return absl::InvalidArgumentError(StrCat("data: expected at least five windows of ",
                                             shape.tokens, " tokens for rwkv-lm, found ", tokens,
                                             " tokens"));
  }
  return std::unique_ptr<BatchSource>(std::make_unique<RwkvLmSource>(std::move(corpus), shape));
}

}  // namespace dreamstate::training

// Tasks whose answers are known.
#include <algorithm>
#include <utility>

#include "core/base/draws.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/training/source_position.h"
#include "core/training/sources.h"

namespace dreamstate::training {
namespace {

// Reversal: digits are themselves.
constexpr int32_t kComma = 10;
constexpr int32_t kEnd = 11;
constexpr int kReversalVocab = 12;
// Parity: 0 and 1 are themselves, 2 asks for the answer.
constexpr int32_t kAsk = 2;
constexpr int kParityVocab = 4;

// A row in the making: tokens, and whether each is an answer.
struct Tokens {
  std::vector<int32_t> token;
  std::vector<bool> answer;
  void Add(int32_t value, bool is_answer) {
    token.push_back(value);
    answer.push_back(is_answer);
  }
};

// "n,reverse(n)#" until the row is full.
void Reversal(const TaskOptions& options, size_t length, bool, Draws& draws, Tokens* out) {
  while (out->token.size() < length) {
    const uint32_t count = 1 + draws.Below(static_cast<uint32_t>(options.digits));
    std::vector<int32_t> digits;
    for (uint32_t i = 0; i < count; ++i) digits.push_back(static_cast<int32_t>(draws.Below(10)));
    for (const int32_t digit : digits) out->Add(digit, false);
    out->Add(kComma, false);
    std::reverse(digits.begin(), digits.end());
    for (const int32_t digit : digits) out->Add(digit, true);
    out->Add(kEnd, false);
  }
}

// Bits, the question, whether their number of ones is odd; again until the row is full.
void Parity(const TaskOptions& options, size_t length, bool, Draws& draws, Tokens* out) {
  while (out->token.size() < length) {
    const uint32_t count = 1 + draws.Below(static_cast<uint32_t>(options.length));
    int32_t parity = 0;
    for (uint32_t i = 0; i < count; ++i) {
      const auto bit = static_cast<int32_t>(draws.Below(2));
      parity ^= bit;
      out->Add(bit, false);
    }
    out->Add(kAsk, false);
    out->Add(parity, true);
  }
}

// Multi-query associative recall: pairs of a key and a value, then keys in random order, each
// followed by its value, among filler. Keys are tokens 1 .. vocab / 2 - 1, values the upper half,
// filler is 0. Training rows have fewer pairs, too: without easy rows nothing is learnt for long.
void Mqar(const TaskOptions& options, size_t length, bool held_out, Draws& draws, Tokens* out) {
  const auto half = static_cast<uint32_t>(options.vocab / 2);
  const auto most = static_cast<uint32_t>(options.pairs);
  const size_t pairs = held_out ? most : 1 + draws.Below(most);
  std::vector<int32_t> keys, values;
  while (keys.size() < pairs) {
    const auto key = static_cast<int32_t>(1 + draws.Below(half - 1));
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
    keys.push_back(key);
    values.push_back(static_cast<int32_t>(half + draws.Below(half)));
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    out->Add(keys[i], false);
    out->Add(values[i], false);
  }
  // Every pair is asked for once, at a random one of the places that are left.
  const size_t places = (length - out->token.size()) / 2;
  std::vector<int32_t> asked(places, -1);
  for (size_t i = 0; i < keys.size() && i < places; ++i) asked[i] = static_cast<int32_t>(i);
  draws.Shuffle(asked);
  for (const int32_t pair : asked) {
    out->Add(pair < 0 ? 0 : keys[pair], false);
    out->Add(pair < 0 ? 0 : values[pair], pair >= 0);
  }
  while (out->token.size() < length) out->Add(0, false);
}

using Writer = void (*)(const TaskOptions&, size_t length, bool held_out, Draws&, Tokens*);

class TaskSource : public BatchSource {
 public:
  TaskSource(const TaskOptions& options, const BatchShape& shape, uint64_t seed, bool held_out,
             Writer writer)
      : options_(options), shape_(shape), seed_(seed), held_out_(held_out), writer_(writer) {}

  int bank_slots() const override { return 0; }
  absl::StatusOr<Batch> Next() override {
    Batch batch = {.rows = shape_.rows, .tokens = shape_.tokens};
    batch.row.resize(shape_.rows);
    const size_t length = static_cast<size_t>(shape_.tokens) + 1;
    for (int row = 0; row < shape_.rows; ++row) {
      Draws draws(seed_, static_cast<uint32_t>(step_), static_cast<uint32_t>(row));
      Tokens tokens;
      writer_(options_, length, held_out_, draws, &tokens);
      for (int t = 0; t < shape_.tokens; ++t) {
        batch.inputs.push_back(tokens.token[t]);
        batch.targets.push_back(tokens.answer[t + 1] ? tokens.token[t + 1] : -1);
      }
    }
    ++step_;
    return batch;
  }
  std::string Save() const override { return SaveStep(step_); }
  absl::Status Restore(const std::string& position) override {
    return RestoreStep(position, &step_);
  }

 private:
  TaskOptions options_;
  BatchShape shape_;
  uint64_t seed_;
  bool held_out_;
  Writer writer_;
  int64_t step_ = 0;
};

}  // namespace

int TaskVocab(const TaskOptions& options) {
  if (options.task == "reversal") return kReversalVocab;
  return options.task == "parity" ? kParityVocab : options.vocab;
}

absl::StatusOr<std::unique_ptr<BatchSource>> MakeTaskSource(const TaskOptions& options,
                                                            const BatchShape& shape, uint64_t seed,
                                                            bool held_out) {
  const auto at_least = [](std::string_view name, int value, int least) {
    if (value >= least) return absl::OkStatus();
    return absl::InvalidArgumentError(
        StrCat(name, ": expected at least ", least, ", found ", value));
  };
  DS_RETURN_IF_ERROR(at_least("batch.rows", shape.rows, 1));
  DS_RETURN_IF_ERROR(at_least("batch.tokens", shape.tokens, 4));
  Writer writer = nullptr;
  if (options.task == "reversal") {
    writer = Reversal;
    DS_RETURN_IF_ERROR(at_least("data.digits", options.digits, 1));
  } else if (options.task == "parity") {
    writer = Parity;
    DS_RETURN_IF_ERROR(at_least("data.length", options.length, 1));
  } else if (options.task == "mqar") {
    writer = Mqar;
    DS_RETURN_IF_ERROR(at_least("data.pairs", options.pairs, 1));
    DS_RETURN_IF_ERROR(at_least("data.task_vocab", options.vocab, 4 * options.pairs));
    DS_RETURN_IF_ERROR(at_least("batch.tokens", shape.tokens, 4 * options.pairs));
  } else {
    return absl::InvalidArgumentError(
        StrCat("data.task: expected reversal, parity or mqar, found ", options.task));
  }
  // The upper half of seeds is held out.
  constexpr uint64_t kHeldOut = uint64_t{1} << 63;
  const uint64_t stream = held_out ? seed | kHeldOut : seed & ~kHeldOut;
  return std::unique_ptr<BatchSource>(
      std::make_unique<TaskSource>(options, shape, stream, held_out, writer));
}

}  // namespace dreamstate::training

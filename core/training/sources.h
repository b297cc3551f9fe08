// The batch sources (core/training/batch.h). All are seeded: step and row decide every draw, so a
// position is a step number, and what is known of the bank's slots.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/training/batch.h"
#include "core/training/corpus.h"

namespace dreamstate::training {

// Windows at random positions of the training split's stream of documents.
absl::StatusOr<std::unique_ptr<BatchSource>> MakeUniformSource(std::shared_ptr<const Corpus> corpus,
                                                               const BatchShape& shape,
                                                               uint64_t seed);

// RWKV-LM's sampling (spec section 3.5): a permutation of windows by cubing modulo a magic prime.
// Row r of step s is sample idx = s x rows + r of one rank. `tokens` is a whole .bin.
// INVALID_ARGUMENT when it is too short for a prime.
absl::StatusOr<std::unique_ptr<BatchSource>> MakeRwkvLmSource(std::shared_ptr<const Corpus> corpus,
                                                              const BatchShape& shape);
// The first token of sample `ii` = 1 + idx (for tests and readers of the official code).
int64_t RwkvLmOffset(int64_t tokens, int64_t context, int64_t ii);
// The largest prime = 2 mod 3 below tokens / context - 1; 0 when there is none.
int64_t MagicPrime(int64_t tokens, int64_t context);

// State-ready training (design of this project): rows hold one label each, begin from zero and from
// kept states, and switch documents at the separator, token 0.
struct StateReadyOptions {
  // Rows of several excerpts of documents of the label, with the separator between them; the others
  // hold one document as long as it lasts.
  double packed_share = 0.6;
  int excerpt_min_tokens = 64;
  int excerpt_max_tokens = 768;
  // Documents begin at their first token in so many cases, else at a random position.
  double document_start_share = 0.15;
  // What rows begin from; what is left of 1 begins from the zero state. A kept state is one after a
  // separator. `own` continues the document that the state has read, `foreign` begins another one
  // of the label, and so does `class_mean`, from the mean of 2 to mean_states states.
  double own_share = 0.15;
  double foreign_share = 0.15;
  double class_mean_share = 0.25;
  int mean_states = 16;
  // Rows that read the separator first: a state whose next token is not known is given it, when it
  // is served.
  double separator_first_share = 0.85;
  // Rows whose last input is the separator behind an excerpt: their last state is kept.
  double keep_share = 0.25;
  int slots_per_label = 16;
};
// INVALID_ARGUMENT naming the option that is out of range.
absl::StatusOr<std::unique_ptr<BatchSource>> MakeStateReadySource(
    std::shared_ptr<const Corpus> corpus, const BatchShape& shape, const StateReadyOptions& options,
    uint64_t seed);

// Tasks with known answers (spec section 7); only answers are scored. Batches with `held_out` come
// from other seeds than those without.
struct TaskOptions {
  std::string task = "reversal";  // reversal, parity, mqar
  int digits = 60;                // reversal: longest number
  int pairs = 16;                 // mqar: key-value pairs a row; training rows have 1 to so many
  int vocab = 8192;               // mqar: half keys, half values
  int length = 40;                // parity: longest run of bits
};
// Tokens that the task needs.
int TaskVocab(const TaskOptions& options);
absl::StatusOr<std::unique_ptr<BatchSource>> MakeTaskSource(const TaskOptions& options,
                                                            const BatchShape& shape, uint64_t seed,
                                                            bool held_out);

// Windows of a held-out split for measuring while training: `tokens` from anywhere in documents,
// after the separator, `windows` a label, every trained label alike; always the same ones. In
// batches of at most `rows` rows, whose Row::label says whose they are. INVALID_ARGUMENT when no
// document is long enough for one.
absl::StatusOr<std::vector<Batch>> HeldOutWindows(const Corpus& corpus, Split split,
                                                  const BatchShape& shape, int windows);

}  // namespace dreamstate::training

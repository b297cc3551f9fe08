// Which part of a split every measurement of compression reads: the model's bits per byte and what
// xz, zstd and n-grams need for the same text must be of the same bytes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "core/text/tokenizer.h"
#include "core/training/corpus.h"

namespace dreamstate::training {

struct ExcerptLimits {
  int64_t document_bytes = 8192;  // the first of a document
  int64_t label_bytes = 65536;    // of all documents of a label
};

struct Excerpt {
  int32_t document = 0;  // index into Corpus::documents of the split
  int32_t label = 0;
  std::span<const uint16_t> tokens;  // the document's first ones, of the corpus's memory
  int64_t bytes = 0;                 // that these tokens stand for
};

// The first bytes of the split's documents, in their order, until a label has its share; the last
// one of a label is cut to fit. No token is cut: an excerpt may be some bytes short of its limit,
// and one without a token is left out.
inline std::vector<Excerpt> ChooseExcerpts(const Corpus& corpus, Split split,
                                           const text::Tokenizer& tokenizer,
                                           const ExcerptLimits& limits) {
  std::vector<Excerpt> excerpts;
  std::vector<int64_t> left(corpus.labels().size(), limits.label_bytes);
  const std::vector<Document>& documents = corpus.documents(split);
  for (size_t index = 0; index < documents.size(); ++index) {
    const Document& document = documents[index];
    const std::span<const uint16_t> tokens = corpus.tokens(split, document);
    const int64_t limit = std::min(limits.document_bytes, left[document.label]);
    size_t count = 0;
    int64_t bytes = 0;
    for (; count < tokens.size(); ++count) {
      const auto more = static_cast<int64_t>(tokenizer.Decode(tokens[count]).size());
      if (bytes + more > limit) break;
      bytes += more;
    }
    if (bytes == 0) continue;
    left[document.label] -= bytes;
    excerpts.push_back({static_cast<int32_t>(index), document.label, tokens.first(count), bytes});
  }
  return excerpts;
}

}  // namespace dreamstate::training

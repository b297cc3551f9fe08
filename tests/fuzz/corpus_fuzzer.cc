// A corpus of which one file is any bytes: refused, or one whose documents lie within its tokens.
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "core/training/corpus.h"
#include "tests/core/training/made_corpus.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::training {
namespace {

// A small good corpus, made once.
struct Good {
  Good() { MadeCorpus(directory.path(), 8); }
  testing::TemporaryDirectory directory;
};

constexpr const char* kFiles[] = {"corpus.json", "train.bin", "train.idx", "train.documents.jsonl"};

void CheckDocuments(const Corpus& corpus) {
  for (const Split split : {Split::kTrain, Split::kValid, Split::kTest}) {
    uint64_t sum = 0;
    for (const Document& document : corpus.documents(split)) {
      if (document.label < 0 || document.label >= static_cast<int32_t>(corpus.labels().size())) {
        std::abort();
      }
      for (const uint16_t token : corpus.tokens(split, document)) sum += token;
    }
    // So that the reading is not left out.
    if (sum == ~uint64_t{0}) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Good* const good = new Good();
  if (size == 0) return 0;
  const std::string path =
      good->directory / (std::string("corpus/") + kFiles[data[0] % std::size(kFiles)]);
  const std::string whole = testing::ReadAll(path);
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(data) + 1, static_cast<std::streamsize>(size - 1));
  if (const auto corpus = Corpus::Open(good->directory / "corpus"); corpus.ok()) {
    CheckDocuments(**corpus);
  }
  std::ofstream(path, std::ios::binary) << whole;
  return 0;
}

}  // namespace dreamstate::training

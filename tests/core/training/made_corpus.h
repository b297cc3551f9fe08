// Small corpora for tests.
#pragma once

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "core/training/corpus.h"
#include "core/training/corpus_builder.h"

namespace dreamstate::training {

inline void WriteText(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

// Words of a small vocabulary that the label and the number decide.
inline std::string MadeText(const std::string& label, int number, size_t bytes) {
  std::string text;
  uint64_t x = std::hash<std::string>()(label) * 31 + static_cast<uint64_t>(number) * 977 + 1;
  while (text.size() < bytes) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    text += label + std::to_string(x >> 40) + ((x >> 20) % 7 == 0 ? "\n" : " ");
  }
  return text;
}

// `documents` files a label of 3,000 bytes and more, labels "alpha", "beta" and the untrained
// "x_gamma".
inline void WriteTexts(const std::string& folder, int documents) {
  for (const char* label : {"alpha", "beta", "x_gamma"}) {
    for (int i = 0; i < documents; ++i) {
      WriteText(folder + "/" + label + "/" + std::to_string(i) + ".txt",
                MadeText(label, i, 3000 + 40 * i));
    }
  }
}

inline std::shared_ptr<const Corpus> MadeCorpus(const std::string& directory, int documents = 60) {
  WriteTexts(directory + "/texts", documents);
  CorpusOptions options;
  BuildCorpus(directory + "/texts", directory + "/corpus", options, nullptr).value();
  return Corpus::Open(directory + "/corpus").value();
}

}  // namespace dreamstate::training

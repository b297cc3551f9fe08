// Turns a file of another engine into a published bundle: read, checked, self-tested, published.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "core/repository/manifest.h"
#include "core/rwkv/config.h"

namespace dreamstate::trainer {

struct ImportOptions {
  std::string file;
  std::string name;        // the model's
  std::string repository;  // made when missing
  std::string tokenizer = "byte";
  int32_t end_token = 0;
  int32_t separator_token = 0;
  std::string chat_template;
  // Read behind the separator token by the self-test.
  std::string self_test_text =
      "The quick brown fox jumps over the lazy dog. It was the best of times, it was the worst of "
      "times.\n";
};

struct Imported {
  repository::Manifest manifest;
  rwkv::Config config;
  int64_t parameters = 0;
};

// Nothing is written before everything is checked. Errors name the option or the tensor, expected
// and found.
absl::StatusOr<Imported> ImportBackbone(const ImportOptions& options);

}  // namespace dreamstate::trainer

// Random models of odd shapes, from a .pth file to logits and states, against what the independent
// `rwkv` package computes (tests/parity/make_golden.py, which says how to repeat it live).
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "core/rwkv/engine.h"
#include "core/rwkv/tensor_shapes.h"
#include "core/tensors/import.h"
#include "core/tensors/pth.h"
#include "gtest/gtest.h"
#include "kernels/runtime/bf16.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/golden.h"

namespace dreamstate::rwkv {
namespace {

using dreamstate::testing::EngineFixture;
using dreamstate::testing::Golden;

// spec/rwkv7.md §7.1: in fp32 small models are within 2e-5 of the official code (logits are of
// order one), those of published sizes within 1e-4 of the logits' standard deviation: they sum
// more.
double Tolerance(const Config& config, double logits_std) {
  constexpr int kPublishedVocab = 65530;
  return config.vocab < kPublishedVocab ? 2e-5 : 1e-4 * logits_std;
}

std::string GoldenDirectory() {
  const char* live = std::getenv("DREAMSTATE_PARITY_GOLDEN");
  return live != nullptr ? live : DREAMSTATE_TEST_DATA "/golden";
}

std::vector<std::string> Stems() {
  std::vector<std::string> stems;
  for (const auto& entry : std::filesystem::directory_iterator(GoldenDirectory())) {
    const std::filesystem::path& path = entry.path();
    if (path.extension() == ".json" && path.stem().string().starts_with("parity_")) {
      stems.push_back((path.parent_path() / path.stem()).string());
    }
  }
  return stems;
}

Config ConfigOf(const Golden& golden) {
  const auto field = [&](const char* name) { return golden.index().at(name).get<int>(); };
  Config config;
  config.layers = field("layers");
  config.width = field("width");
  config.head_size = 64;
  config.heads = config.width / config.head_size;
  config.vocab = field("vocab");
  config.ffn_width = field("ffn_width");
  config.rank_decay = field("rank_decay");
  config.rank_iclr = field("rank_iclr");
  config.rank_value = field("rank_value");
  config.rank_gate = field("rank_gate");
  return config;
}

// The three functions of make_golden.py that make a tensor.
double Uniform(const std::string& name, uint64_t seed, uint64_t index) {
  uint64_t x = 0xcbf29ce484222325;
  for (const char byte : name) x = (x ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  x = (x + seed + index + 1) * 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  x ^= x >> 31;
  return static_cast<double>(x >> 40) / 8388608.0 - 1.0;
}

std::pair<double, double> CenterAndScale(const std::string& name, const tensors::Shape& shape) {
  const std::string last = name.substr(name.rfind('.') + 1);
  if (last == "bias") return {0, 0.125};
  if (last == "weight" && shape.size() == 1) return {1, 0.25};
  if (last.starts_with("x_")) return {0.5, 0.5};
  if (last == "w0") return {-1, 4};
  if (last == "a0" || last == "v0") return {0, 1};
  if (last == "k_k") return {0.75, 0.25};
  if (last == "k_a") return {1, 0.25};
  if (last == "r_k") return {0, 0.5};
  if (name == "emb.weight") return {0, 1};
  const int64_t inputs = last == "weight" ? shape[1] : shape[0];
  return {0, 1.5 / std::sqrt(static_cast<double>(inputs))};
}

// A checkpoint as the official trainer writes it.
std::string Checkpoint(const Config& config, uint64_t seed) {
  std::vector<std::vector<uint16_t>> storage;
  std::vector<tensors::Tensor> list;
  for (const TensorShape& entry : ExpectedTensors(config)) {
    int64_t elements = 1;
    for (const int64_t size : entry.shape) elements *= size;
    std::vector<uint16_t>& bits = storage.emplace_back(elements);
    const auto [center, scale] = CenterAndScale(entry.name, entry.shape);
    for (size_t i = 0; i < bits.size(); ++i) {
      bits[i] =
          kernels::FloatToBf16(static_cast<float>(center + scale * Uniform(entry.name, seed, i)));
    }
    tensors::Shape shape = entry.shape;
    const std::string last = entry.name.substr(entry.name.rfind('.') + 1);
    if (shape.size() == 1 && last != "weight" && last != "bias") shape = {1, 1, shape[0]};
    list.push_back(
        {entry.name, tensors::DType::kBF16, shape, std::as_bytes(std::span<const uint16_t>(bits))});
  }
  return tensors::SerializePth(list, tensors::PthContainer::kDict).value();
}

struct Distance {
  double worst = 0;
  void Add(float found, float expected, double allowed) {
    const double difference = std::abs(double{found} - double{expected});
    EXPECT_LE(difference, allowed);  // NaN fails
    worst = std::max(worst, difference);
  }
};

TEST(Parity, OfRandomModelsWithTheRwkvPackage) {
  const std::vector<std::string> stems = Stems();
  ASSERT_FALSE(stems.empty());
  for (const std::string& stem : stems) {
    SCOPED_TRACE(stem);
    const Golden golden(stem);
    const Config config = ConfigOf(golden);
    const std::string file = Checkpoint(config, golden.index().at("seed").get<uint64_t>());
    const auto read = tensors::ParsePth(stem, std::as_bytes(std::span(file)), nullptr);
    ASSERT_TRUE(read.ok()) << read.status();
    const auto set = tensors::NormalForm(*read);
    ASSERT_TRUE(set.ok()) << set.status();
    ASSERT_EQ(tensors::Fingerprint(*set), golden.index().at("fingerprint").get<std::string>());

    EngineFixture fixture(*set, WeightFormat::kFloat32, {.max_tokens = 8, .slots = 1});
    const auto tokens = golden.index().at("tokens").get<std::vector<int32_t>>();
    const auto logits = golden.Values<float>("logits");
    const double tolerance = Tolerance(config, golden.index().at("logits_std").get<double>());
    Distance of_logits, of_state;
    for (size_t t = 0; t < tokens.size(); ++t) {
      const std::vector<float> row = fixture.Read(0, std::span(tokens).subspan(t, 1), 1);
      for (size_t i = 0; i < row.size(); ++i) {
        of_logits.Add(row[i], logits[t * row.size() + i], tolerance);
      }
    }
    const auto step = golden.index().at("state_step").get<size_t>();
    const auto expected = golden.Values<float>("state");
    const std::vector<float> state = fixture.State(0);
    ASSERT_EQ(expected.size(), (state.size() + step - 1) / step);
    for (size_t i = 0; i < expected.size(); ++i) {
      of_state.Add(state[i * step], expected[i], tolerance * std::max(1.0f, std::abs(expected[i])));
    }
    std::cout << std::filesystem::path(stem).stem().string() << ": logits within "
              << of_logits.worst << ", state within " << of_state.worst << "\n";
  }
}

}  // namespace
}  // namespace dreamstate::rwkv

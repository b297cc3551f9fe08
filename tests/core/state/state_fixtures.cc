#include "tests/core/state/state_fixtures.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

namespace dreamstate::testing {
namespace {

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

}  // namespace

state::Record MakeRecord(uint64_t seed, const state::Shape& shape) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  state::Record record;
  record.model = "tiny";
  record.fingerprint = std::string(64, 'a');
  record.numerics = "fp32/reference";
  record.token_count = static_cast<int64_t>(seed % 1000);
  record.lineage.operation = "harvest";
  record.lineage.arguments = {{"document", seed}};
  record.lineage.tokens_read = 7;
  record.lineage.kept_tokens = {1, -2, static_cast<int32_t>(seed)};
  record.lineage.tokens_sha256 = state::TokensSha256(record.lineage.kept_tokens);
  record.state = state::State::Empty(shape);
  for (float& value : record.state.shift) value = normal(random);
  for (float& value : record.state.wkv) value = normal(random);
  record.last_hidden.resize(static_cast<size_t>(shape.width));
  for (float& value : record.last_hidden) value = normal(random);
  return record;
}

std::string Difference(const state::Record& a, const state::Record& b) {
  if (a.model != b.model) return "model";
  if (a.fingerprint != b.fingerprint) return "fingerprint";
  if (a.numerics != b.numerics) return "numerics";
  if (a.token_count != b.token_count) return "token_count";
  if (a.lineage.operation != b.lineage.operation) return "lineage.operation";
  if (a.lineage.parents != b.lineage.parents) return "lineage.parents";
  if (a.lineage.arguments != b.lineage.arguments) return "lineage.arguments";
  if (a.lineage.tokens_sha256 != b.lineage.tokens_sha256) return "lineage.tokens_sha256";
  if (a.lineage.tokens_read != b.lineage.tokens_read) return "lineage.tokens_read";
  if (a.lineage.kept_tokens != b.lineage.kept_tokens) return "lineage.kept_tokens";
  if (!(a.state.shape == b.state.shape)) return "shape";
  if (!SameBits(a.state.shift, b.state.shift)) return "shift";
  if (!SameBits(a.state.wkv, b.state.wkv)) return "wkv";
  if (!SameBits(a.last_hidden, b.last_hidden)) return "last_hidden";
  return "";
}

std::vector<std::string> ListAll(state::StateStore& store, const std::string& tenant,
                                 state::ListQuery query) {
  std::vector<std::string> ids;
  for (;;) {
    const absl::StatusOr<state::ListPage> page = store.List(tenant, query);
    if (!page.ok()) return {page.status().ToString()};
    for (const state::Description& found : page->states) ids.push_back(found.record.id);
    if (page->next_page_token.empty()) return ids;
    query.page_token = page->next_page_token;
  }
}

std::vector<std::string> FilesEndingIn(const std::string& directory, const std::string& ending) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    const std::string path = entry.path().string();
    if (entry.is_regular_file() && path.size() >= ending.size() &&
        path.compare(path.size() - ending.size(), ending.size(), ending) == 0) {
      paths.push_back(path);
    }
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

void FlipByte(const std::string& path, int64_t offset, char mask) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(offset);
  const char byte = static_cast<char>(file.get() ^ mask);
  file.seekp(offset);
  file.put(byte);
}

}  // namespace dreamstate::testing

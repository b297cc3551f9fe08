#include "core/training/near_duplicates.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

namespace dreamstate::training {
namespace {

constexpr size_t kPiece = 24;
constexpr uint64_t kBase = 0x9e3779b97f4a7c15;

// The finaliser of splitmix64: rolling hashes are not evenly spread.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

}  // namespace

Sketch MakeSketch(std::string_view text) {
  if (text.empty()) return {};
  const size_t piece = std::min(kPiece, text.size());
  uint64_t highest = 1;
  for (size_t i = 1; i < piece; ++i) highest *= kBase;
  const auto byte = [&text](size_t i) { return uint64_t{static_cast<unsigned char>(text[i])} + 1; };
  uint64_t rolling = 0;
  Sketch hashes;
  hashes.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (i >= piece) rolling -= byte(i - piece) * highest;
    rolling = rolling * kBase + byte(i);
    if (i + 1 >= piece) hashes.push_back(Mix(rolling));
  }
  std::sort(hashes.begin(), hashes.end());
  hashes.erase(std::unique(hashes.begin(), hashes.end()), hashes.end());
  if (hashes.size() > kSketchHashes) hashes.resize(kSketchHashes);
  hashes.shrink_to_fit();
  return hashes;
}

double Similarity(const Sketch& a, const Sketch& b) {
  // Of the smallest hashes of the union, how many are in both.
  size_t i = 0, j = 0;
  int both = 0, seen = 0;
  while (seen < kSketchHashes && (i < a.size() || j < b.size())) {
    if (j == b.size() || (i < a.size() && a[i] < b[j])) {
      ++i;
    } else if (i == a.size() || b[j] < a[i]) {
      ++j;
    } else {
      ++i, ++j, ++both;
    }
    ++seen;
  }
  return seen == 0 ? 0.0 : static_cast<double>(both) / seen;
}

bool NearDuplicateIndex::Contains(const Sketch& sketch) const {
  std::unordered_map<int32_t, int> shared;
  for (const uint64_t hash : sketch) {
    const auto found = by_hash_.find(hash);
    if (found == by_hash_.end()) continue;
    for (const int32_t document : found->second) ++shared[document];
  }
  for (const auto& [document, count] : shared) {
    if (Similarity(sketch, sketches_[document]) >= threshold_) return true;
  }
  return false;
}

void NearDuplicateIndex::Add(Sketch sketch) {
  const auto document = static_cast<int32_t>(sketches_.size());
  for (const uint64_t hash : sketch) by_hash_[hash].push_back(document);
  sketches_.push_back(std::move(sketch));
}

}  // namespace dreamstate::training

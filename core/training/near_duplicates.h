// Finds documents that share most of their text, by bottom-k sketches of hashed 24-byte pieces
// (Broder, "On the resemblance and containment of documents", 1997).
#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace dreamstate::training {

// The smallest distinct hashes of a text's pieces, sorted, at most kSketchHashes.
using Sketch = std::vector<uint64_t>;
inline constexpr int kSketchHashes = 128;
Sketch MakeSketch(std::string_view text);

// Estimates the Jaccard similarity of the texts' pieces, in [0, 1].
double Similarity(const Sketch& a, const Sketch& b);

// A growing set of documents. Not thread-safe.
class NearDuplicateIndex {
 public:
  explicit NearDuplicateIndex(double threshold) : threshold_(threshold) {}
  // Whether a document at least `threshold` similar was added before.
  bool Contains(const Sketch& sketch) const;
  void Add(Sketch sketch);

 private:
  const double threshold_;
  std::vector<Sketch> sketches_;
  std::unordered_map<uint64_t, std::vector<int32_t>> by_hash_;
};

}  // namespace dreamstate::training

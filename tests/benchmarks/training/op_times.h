// Where the time of torch operations goes, by kind.
#pragma once

#include <map>
#include <string>

namespace dreamstate::training {

// From Begin() to End(): seconds that each kind of operation took, without the operations that it
// called. Kinds: "matrix products", "WKV forward", "WKV backward", "fused elementwise", "copies and
// casts", "elementwise". Not thread-safe; operations of this thread only.
class OpTimes {
 public:
  void Begin();
  std::map<std::string, double> End();

 private:
  unsigned long long handle_ = 0;
};

}  // namespace dreamstate::training

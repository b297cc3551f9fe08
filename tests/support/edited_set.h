// A tensor set with single tensors changed, for tests of what readers refuse.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/tensors/tensor_set.h"

namespace dreamstate::testing {

class EditedSet {
 public:
  explicit EditedSet(const tensors::TensorSet& set)
      : original_(std::make_shared<tensors::TensorSet>(set)), tensors_(set.tensors()) {}

  EditedSet& Remove(const std::string& name) {
    std::erase_if(tensors_, [&](const tensors::Tensor& tensor) { return tensor.name == name; });
    return *this;
  }
  EditedSet& Rename(const std::string& name, const std::string& to) {
    Find(name).name = to;
    return *this;
  }
  EditedSet& Reshape(const std::string& name, tensors::Shape shape) {
    Find(name).shape = std::move(shape);
    return *this;
  }
  // A copy of `name` under another name.
  EditedSet& Add(const std::string& name, const std::string& copy) {
    tensors_.push_back(Find(name));
    tensors_.back().name = copy;
    return *this;
  }
  // Reads the same bytes as another type of half or less width, and as many elements as the shape
  // says.
  EditedSet& Retype(const std::string& name, tensors::DType dtype) {
    tensors::Tensor& tensor = Find(name);
    tensor.dtype = dtype;
    tensor.data = tensor.data.first(tensor.elements() * tensors::DTypeBytes(dtype));
    return *this;
  }
  // Puts a NaN, or another value, at one element of an f32 tensor.
  EditedSet& Poison(const std::string& name, size_t element,
                    float value = std::numeric_limits<float>::quiet_NaN()) {
    tensors::Tensor& tensor = Find(name);
    storage_->emplace_back(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
    std::string& bytes = storage_->back();
    std::memcpy(bytes.data() + element * sizeof value, &value, sizeof value);
    tensor.data = std::as_bytes(std::span<const char>(bytes));
    return *this;
  }
  tensors::TensorSet Make() const {
    return tensors::TensorSet::Make(
               "edited", tensors_, {},
               std::make_shared<std::pair<Original, Storage>>(original_, storage_))
        .value();
  }

 private:
  using Original = std::shared_ptr<tensors::TensorSet>;
  using Storage = std::shared_ptr<std::vector<std::string>>;

  tensors::Tensor& Find(const std::string& name) {
    return *std::find_if(tensors_.begin(), tensors_.end(),
                         [&](const tensors::Tensor& tensor) { return tensor.name == name; });
  }

  Original original_;
  Storage storage_ = [] {
    auto storage = std::make_shared<std::vector<std::string>>();
    storage->reserve(8);
    return storage;
  }();
  std::vector<tensors::Tensor> tensors_;
};

}  // namespace dreamstate::testing

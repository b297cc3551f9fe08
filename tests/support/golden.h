// Reads golden vectors: a .json that lists tensors (name, dtype, shape, offset) and the .bin they
// lie in.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "nlohmann/json.hpp"

namespace dreamstate::testing {

class Golden {
 public:
  // `stem` is a path without ".json"; throws when a file is missing, which fails the test with its
  // name.
  explicit Golden(const std::string& stem)
      : stem_(stem),
        index_(nlohmann::json::parse(Read(stem + ".json"))),
        bytes_(Read(stem + ".bin")) {}

  const nlohmann::json& index() const { return index_; }

  std::vector<int64_t> Shape(const std::string& name) const {
    return Entry(name).at("shape").get<std::vector<int64_t>>();
  }

  std::string DType(const std::string& name) const {
    return Entry(name).at("dtype").get<std::string>();
  }

  // The raw bytes of a tensor.
  std::string Bytes(const std::string& name) const {
    const nlohmann::json& entry = Entry(name);
    return bytes_.substr(entry.at("offset").get<size_t>(), entry.at("nbytes").get<size_t>());
  }

  // The values of an f32, f64 or i64 tensor, as T.
  template <typename T>
  std::vector<T> Values(const std::string& name) const {
    const std::string dtype = DType(name);
    const std::string raw = Bytes(name);
    if (dtype == "f32") return Convert<float, T>(raw);
    if (dtype == "f64") return Convert<double, T>(raw);
    if (dtype == "i64") return Convert<int64_t, T>(raw);
    throw std::runtime_error(stem_ + ": " + name + " has dtype " + dtype);
  }

 private:
  static std::string Read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("missing " + path);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

  template <typename From, typename To>
  static std::vector<To> Convert(const std::string& raw) {
    std::vector<From> values(raw.size() / sizeof(From));
    std::memcpy(values.data(), raw.data(), values.size() * sizeof(From));
    if constexpr (std::is_same_v<From, To>) return values;
    return std::vector<To>(values.begin(), values.end());
  }

  const nlohmann::json& Entry(const std::string& name) const {
    for (const nlohmann::json& entry : index_.at("tensors")) {
      if (entry.at("name") == name) return entry;
    }
    throw std::runtime_error(stem_ + " has no tensor " + name);
  }

  std::string stem_;
  nlohmann::json index_;
  std::string bytes_;
};

}  // namespace dreamstate::testing

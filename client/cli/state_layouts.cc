#include "client/cli/state_layouts.h"

#include <cstddef>

#include "absl/strings/str_cat.h"

namespace dreamstate::cli {
namespace {

template <typename Value>
struct Choice {
  const char* name;
  Value value;
};
constexpr Choice<v1::StateLayout> kLayouts[] = {{"dreamstate", v1::DREAMSTATE},
                                                {"canonical", v1::CANONICAL},
                                                {"rwkv", v1::RWKV_PACKAGE},
                                                {"time-state", v1::TIME_STATE}};
constexpr Choice<v1::StateDType> kDTypes[] = {
    {"fp32", v1::FLOAT32}, {"bf16", v1::BFLOAT16}, {"fp16", v1::FLOAT16}};

// An option that takes one of the names.
template <typename Value, size_t kCount>
void AddChoice(CLI::App& command, const std::string& name, Value* value,
               const Choice<Value> (&choices)[kCount], const std::string& type_name,
               const std::string& description) {
  command
      .add_option_function<std::string>(
          name,
          [name, value, &choices](const std::string& text) {
            std::string expected;
            for (const Choice<Value>& choice : choices) {
              if (text == choice.name) {
                *value = choice.value;
                return;
              }
              absl::StrAppend(&expected, expected.empty() ? "" : ", ", choice.name);
            }
            throw CLI::ValidationError(name, "expected one of " + expected);
          },
          description)
      ->type_name(type_name);
}

}  // namespace

void StateFormat::AddTo(CLI::App& command, const std::string& layout_description,
                        const std::string& dtype_description) {
  AddChoice(
      command, "--layout", &layout, kLayouts, "LAYOUT",
      "dreamstate (our safetensors, nothing is lost), canonical (bare values), rwkv (the list "
      "of the Python package rwkv), or time-state (tuned states of RWKV-PEFT); " +
          layout_description);
  AddChoice(command, "--dtype", &dtype, kDTypes, "DTYPE",
            "fp32, bf16 or fp16; " + dtype_description);
}

}  // namespace dreamstate::cli

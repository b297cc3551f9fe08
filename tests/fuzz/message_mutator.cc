#include "tests/fuzz/message_mutator.h"

#include <cstdint>
#include <iterator>
#include <limits>
#include <string>

namespace dreamstate::fuzz {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

template <typename T, size_t kSize>
const T& Pick(const T (&choices)[kSize], std::minstd_rand& random) {
  return choices[random() % kSize];
}

template <typename T>
T Integer(std::minstd_rand& random) {
  using Limits = std::numeric_limits<T>;
  const T edges[] = {0,
                     1,
                     2,
                     63,
                     64,
                     65,
                     256,
                     1000,
                     1001,
                     4096,
                     Limits::max(),
                     Limits::min(),
                     static_cast<T>(Limits::max() - 1),
                     static_cast<T>(-1)};
  return random() % 4 == 0 ? static_cast<T>(random()) : Pick(edges, random);
}

double Real(std::minstd_rand& random) {
  using Limits = std::numeric_limits<double>;
  const double edges[] = {0.0,
                          -0.0,
                          1.0,
                          -1.0,
                          0.5,
                          2.0,
                          10.0,
                          10.1,
                          1e30,
                          1e300,
                          Limits::quiet_NaN(),
                          Limits::infinity(),
                          -Limits::infinity(),
                          Limits::denorm_min()};
  return Pick(edges, random);
}

// UTF-8, as a proto string must be.
std::string Text(std::minstd_rand& random) {
  static const std::string kTexts[] = {
      "",
      "a",
      "models/tiny",
      "models/tiny/versions/3",
      "models/../x",
      "states/",
      "states/01m82qp4hy0vmsn3s8nvr4hyf6",
      std::string(64, 'a'),
      std::string(128, 'x'),
      std::string(129, 'x'),
      std::string(257, 'y'),
      std::string("nul\0nul", 7),
      "line\nline",
      "\xf0\x9f\x9a\x80 emoji",
      "labels",
      "time_to_live",
      "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
  };
  return Pick(kTexts, random);
}

std::string Bytes(std::minstd_rand& random) {
  std::string bytes(random() % 4 == 0 ? random() % 4096 : random() % 64, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

std::string TextOrBytes(const FieldDescriptor& field, std::minstd_rand& random) {
  return field.type() == FieldDescriptor::TYPE_BYTES ? Bytes(random) : Text(random);
}

void Set(Message* message, const FieldDescriptor& field, std::minstd_rand& random) {
  const Reflection& r = *message->GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return r.SetInt32(message, &field, Integer<int32_t>(random));
    case FieldDescriptor::CPPTYPE_INT64:
      return r.SetInt64(message, &field, Integer<int64_t>(random));
    case FieldDescriptor::CPPTYPE_UINT32:
      return r.SetUInt32(message, &field, Integer<uint32_t>(random));
    case FieldDescriptor::CPPTYPE_UINT64:
      return r.SetUInt64(message, &field, Integer<uint64_t>(random));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return r.SetFloat(message, &field, static_cast<float>(Real(random)));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return r.SetDouble(message, &field, Real(random));
    case FieldDescriptor::CPPTYPE_BOOL:
      return r.SetBool(message, &field, random() % 2 == 0);
    case FieldDescriptor::CPPTYPE_ENUM:
      return r.SetEnumValue(
          message, &field,
          random() % 8 == 0 ? Integer<int32_t>(random) : static_cast<int>(random() % 6));
    case FieldDescriptor::CPPTYPE_STRING:
      return r.SetString(message, &field, TextOrBytes(field, random));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return MutateMessage(r.MutableMessage(message, &field), random);
  }
}

void Add(Message* message, const FieldDescriptor& field, std::minstd_rand& random) {
  const Reflection& r = *message->GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return r.AddInt32(message, &field, Integer<int32_t>(random));
    case FieldDescriptor::CPPTYPE_INT64:
      return r.AddInt64(message, &field, Integer<int64_t>(random));
    case FieldDescriptor::CPPTYPE_UINT32:
      return r.AddUInt32(message, &field, Integer<uint32_t>(random));
    case FieldDescriptor::CPPTYPE_UINT64:
      return r.AddUInt64(message, &field, Integer<uint64_t>(random));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return r.AddFloat(message, &field, static_cast<float>(Real(random)));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return r.AddDouble(message, &field, Real(random));
    case FieldDescriptor::CPPTYPE_BOOL:
      return r.AddBool(message, &field, random() % 2 == 0);
    case FieldDescriptor::CPPTYPE_ENUM:
      return r.AddEnumValue(message, &field, static_cast<int>(random() % 6));
    case FieldDescriptor::CPPTYPE_STRING:
      return r.AddString(message, &field, TextOrBytes(field, random));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return MutateMessage(r.AddMessage(message, &field), random);
  }
}

void MutateRepeated(Message* message, const FieldDescriptor& field, std::minstd_rand& random) {
  const Reflection& r = *message->GetReflection();
  const int size = r.FieldSize(*message, &field);
  if (size > 0 && random() % 3 == 0) {
    r.RemoveLast(message, &field);
  } else if (size > 0 && field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
             random() % 2 == 0) {
    MutateMessage(r.MutableRepeatedMessage(
                      message, &field, static_cast<int>(random() % static_cast<unsigned>(size))),
                  random);
  } else {
    // Now and then many at once: limits on counts.
    const int more = random() % 16 == 0 ? 80 : 1;
    for (int i = 0; i < more; ++i) Add(message, field, random);
  }
}

}  // namespace

void MutateMessage(Message* message, std::minstd_rand& random) {
  const google::protobuf::Descriptor& type = *message->GetDescriptor();
  if (type.field_count() == 0) return;
  const FieldDescriptor& field =
      *type.field(static_cast<int>(random() % static_cast<unsigned>(type.field_count())));
  if (field.is_repeated()) {
    MutateRepeated(message, field, random);
  } else if (random() % 6 == 0) {
    message->GetReflection()->ClearField(message, &field);
  } else {
    Set(message, field, random);
  }
}

}  // namespace dreamstate::fuzz
